/*
 * basketexamples.h
 *		What the weights of the blend are learnt from: lists of products that might have come next.
 */
#ifndef OM_BASKETEXAMPLES_H
#define OM_BASKETEXAMPLES_H

#include "postgres.h"

#include "basketfeatures.h"
#include "basketmodel.h"

/*
 * What a customer is for, as he was dealt by his id.  Of whom nothing was learnt and
 * by whom nothing was chosen, what has been learnt can be measured on.
 */
typedef enum OmBasketPart
{
	OM_BASKET_FOR_MEASURING,
	OM_BASKET_FOR_CHOOSING,
	OM_BASKET_FOR_LEARNING
} OmBasketPart;

/* Measured on one in five, chosen by one in five. */
#define OM_BASKET_SHARES 5

static inline OmBasketPart
om_basket_part(const OmBaskets *baskets, int customer)
{
	return Min(om_baskets_lot(baskets, customer) % OM_BASKET_SHARES, OM_BASKET_FOR_LEARNING);
}

/* One of so many of each part. */
static inline bool
om_basket_is_sampled(const OmBaskets *baskets, int customer, int one_of)
{
	return om_baskets_lot(baskets, customer) / OM_BASKET_SHARES % one_of == 0;
}

typedef struct OmBasketRow
{
	float offset; /* what it stands for besides itself, as a logarithm */
	bool is_owned;
	bool is_hit;
} OmBasketRow;

typedef struct OmBasketList
{
	OmBasketPart part;
	int64 first_row;
	int64 first_feature;
	int nrows;
	int nhits;
} OmBasketList;

/* One list a customer; rows of products that he has had have more features than others. */
typedef struct OmBasketExamples
{
	OmBasketList *lists;
	int nlists;
	OmBasketRow *rows;
	int64 nrows;
	int64 rows_room;
	float *features;
	int64 nfeatures;
	int64 features_room;
} OmBasketExamples;

static inline int
om_basket_row_width(const OmBasketRow *row)
{
	return row->is_owned ? OM_BASKET_OWNED_FEATURES : OM_BASKET_OTHER_FEATURES;
}

static inline int
om_basket_row_first(const OmBasketRow *row)
{
	return row->is_owned ? 0 : OM_BASKET_OWNED_FEATURES;
}

#define OM_BASKET_MAX_LISTS 6000

/*
 * Of so many customers for learning and for choosing, from the model, whose baskets are
 * all but the last of each customer in "whole".  In the current memory context.
 */
extern OmBasketExamples *om_basketexamples_collect(const OmBasketModel *model,
												   const OmBaskets *whole, int most);

#endif /* OM_BASKETEXAMPLES_H */
