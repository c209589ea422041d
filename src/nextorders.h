/*
 * nextorders.h
 *		What customers will order next, as a model says.
 */
#ifndef OM_NEXTORDERS_H
#define OM_NEXTORDERS_H

#include "postgres.h"

/* Most products of one prediction. */
#define OM_NEXTORDERS_MAX_K 100

typedef void (*OmNextOrderSink)(void *arg, const char *customer_id, int rank,
								const char *product_id, double score);

/*
 * Calls sink for the k products that each of these customers will most likely
 * order next.  NULL: all customers that the model knows.  OM004: there is no such
 * model; OM005: it has not been trained; OM008: it has failed, or predicts
 * something else.
 */
extern void om_nextorders_predict(const char *model, const char *const *customer_ids, int count,
								  int k, OmNextOrderSink sink, void *arg);

#endif /* OM_NEXTORDERS_H */
