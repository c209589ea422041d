/*
 * basketscores.h
 *		Which products a customer will order next, by each of the algorithms.
 */
#ifndef OM_BASKETSCORES_H
#define OM_BASKETSCORES_H

#include "postgres.h"

#include "basketfeatures.h"
#include "basketmodel.h"

/* Products that the model does not know and a run has all the same: at most so many kinds. */
#define OM_BASKET_MAX_STRANGERS 1024

/*
 * Room for predictions by one model, one after the other.  Strangers are numbered
 * from nproducts on, in the order of their ids.
 */
typedef struct OmBasketWork
{
	int nproducts; /* of the model, without strangers */
	char **stranger_ids;
	int nstrangers;

	int *place;       /* -1 for all products, between predictions */
	OmBasketOwn *own; /* what the customer has had */
	int nown;
	int own_room;
	float rebuying; /* how much of what he orders he has had before */

	float *near; /* of each product: its weight among the neighbours; 0 between predictions */
	int32 *near_products;
	int nnear;

	float *dot; /* of each customer with the one for whom we predict; 0 between predictions */
	int32 *met; /* those for whom it is not 0 */
	int nmet;
	struct OmBasketNeighbour *neighbours;

	double
		*other_score; /* what the blend gives a product by itself; NULL: it is another algorithm */
	int *by_other_score; /* products, the highest first */
} OmBasketWork;

typedef struct OmBasketNeighbour
{
	float distance; /* or minus the similarity */
	int customer;
} OmBasketNeighbour;

/* A list of the best, best first. */
typedef struct OmBasketChoice
{
	int32 product;
	double score;
	double second; /* decides between equal scores, then the product's id */
} OmBasketChoice;

/* In the current memory context.  The parameters of the model stay what they are until the end. */
extern OmBasketWork *om_basketscores_begin(const OmBasketModel *model);
extern void om_basketscores_end(OmBasketWork *work);

/* The customer's own baskets and his neighbours: what om_basketscores_choose() looks at. */
extern void om_basketscores_look(const OmBasketModel *model, OmBasketWork *work,
								 const OmBasketRun *run, int self);
extern void om_basketscores_forget(OmBasketWork *work);

/* The weight of a product among the neighbours. */
extern float om_basketscores_near(const OmBasketWork *work, int32 product);

/*
 * The k best after these baskets; self is the customer's number in the model, who
 * is no neighbour of his own, or -1.  Returns how many there are.  Raises nothing
 * once it has memory.
 */
extern int om_basketscores_choose(const OmBasketModel *model, OmBasketWork *work,
								  const OmBasketRun *run, int self, int k, OmBasketChoice *choice);

#endif /* OM_BASKETSCORES_H */
