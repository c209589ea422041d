/*
 * kindbasket.h
 *		Kind "next_basket": what a customer will order next.
 */
#ifndef OM_KINDBASKET_H
#define OM_KINDBASKET_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "baskets.h"

#define OM_KINDBASKET_NAME "next_basket"

/* To be called when the library is loaded. */
extern void om_kindbasket_init(void);

/* A model that has been loaded: what load() of the provider has returned. */
typedef struct OmBasketState OmBasketState;

typedef struct OmNextProduct
{
	const char *product_id; /* until the model or the orders go */
	double score;
} OmNextProduct;

/*
 * Orders that have come since the model was trained, of all customers: what many
 * predictions share.
 */
extern OmBaskets *om_kindbasket_read_new_orders(const OmBasketState *state);

/*
 * The k products that a customer will most likely order next, best first; returns
 * how many there are.  Without new orders (NULL) his own are read from the tables.
 * Everything lies in the current memory context.
 */
extern int om_kindbasket_predict(OmBasketState *state, const char *customer_id,
								 const OmBaskets *new_orders, int k, OmNextProduct *products);

/* The same as JSON: [{"product_id", "score"}, ...]. */
extern Jsonb *om_kindbasket_list(const OmNextProduct *products, int count);

extern int om_kindbasket_ncustomers(const OmBasketState *state);
extern const char *om_kindbasket_customer(const OmBasketState *state, int customer);

#endif /* OM_KINDBASKET_H */
