/*
 * baskets.h
 *		What customers have ordered, order by order, as a model learns from it.
 */
#ifndef OM_BASKETS_H
#define OM_BASKETS_H

#include "postgres.h"

#include "lib/stringinfo.h"

/*
 * Customers and products are numbered in the byte order of their ids, so that
 * whoever prefers the smaller number prefers the smaller id.  A basket is an
 * order: its products, ascending, each once; a customer's newest comes last.
 */
typedef struct OmBaskets
{
	int ncustomers;
	int nbaskets;
	int nproducts;
	char **customer_ids;
	char **product_ids;
	int *first_basket; /* of each customer, and the end */
	int *first_item;   /* of each basket, and the end */
	int32 *items;
	int *nsettled; /* of each customer: how many baskets will not change any more */
} OmBaskets;

/* A stretch of baskets, oldest first. */
typedef struct OmBasketRun
{
	int nbaskets;
	const int32 **items;
	int *nitems;
} OmBasketRun;

/* --- making them from rows that come by customer, time and order ------------------------------- */

typedef struct OmBasketsBuilder OmBasketsBuilder;

/* Customers with fewer baskets than least are left out, of others the newest so many kept. */
extern OmBasketsBuilder *om_baskets_begin(int least, int most);
extern void om_baskets_begin_customer(OmBasketsBuilder *builder, const char *id, int length);
extern void om_baskets_begin_basket(OmBasketsBuilder *builder, bool is_settled);
extern void om_baskets_add_item(OmBasketsBuilder *builder, const char *id, int length);
extern OmBaskets *om_baskets_finish(OmBasketsBuilder *builder);

/* --- using them ----------------------------------------------------------------------------------- */

/* -1: is not there. */
extern int om_baskets_find_customer(const OmBaskets *baskets, const char *id);
extern int om_baskets_find_product(const OmBaskets *baskets, const char *id);

static inline int
om_baskets_of(const OmBaskets *baskets, int customer)
{
	return baskets->first_basket[customer + 1] - baskets->first_basket[customer];
}

static inline int
om_baskets_nitems(const OmBaskets *baskets, int basket)
{
	return baskets->first_item[basket + 1] - baskets->first_item[basket];
}

/*
 * A number that a customer has by his id, 0 to 4294967295: who is dealt by it is dealt
 * likewise in every training, whoever else there is.
 */
extern uint32 om_baskets_lot(const OmBaskets *baskets, int customer);

/* The first so many baskets of a customer, with room for some more. */
extern OmBasketRun om_baskets_run(const OmBaskets *baskets, int customer, int count, int room);

/*
 * All but the last basket of each customer, which may leave none.  What was
 * left out of a customer is basket first_basket[customer + 1] - 1 of the original.
 */
extern OmBaskets *om_baskets_without_last(const OmBaskets *baskets);

/* As bytes, and back; bytes that are no baskets are an error. */
extern void om_baskets_write(const OmBaskets *baskets, StringInfo buffer);
extern OmBaskets *om_baskets_read(const char **position, const char *end);

/* Whole numbers in as few bytes as they need. */
extern void om_baskets_write_number(StringInfo buffer, uint64 number);
extern uint64 om_baskets_read_number(const char **position, const char *end);

#endif /* OM_BASKETS_H */
