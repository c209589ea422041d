/*
 * kinddemand.h
 *		Models of kind "demand".
 */
#ifndef OM_KINDDEMAND_H
#define OM_KINDDEMAND_H

#include "postgres.h"

#include "demandmodel.h"
#include "models.h"

/* What a model that is open has learnt; OM001 where it is of another kind. */
extern const OmDemandModel *om_kinddemand_get(const OmModel *model);

/* OM001 where there is a model of that name, and it is of another kind. */
extern void om_kinddemand_require(const char *name);

/* The item of a product; NULL: it was not ordered in the history. */
extern const OmDemandItem *om_kinddemand_find(const OmDemandModel *model, const char *product_id);

/* The first day that is forecast now, as the model's option "from" says. */
extern int32 om_kinddemand_start(const OmModelInfo *info, const OmDemandModel *model);

/* What predict() is asked, and what it answers; an item of NULL has no history. */
extern Jsonb *om_kinddemand_input(const char *product_id, int32 ndays);
extern Jsonb *om_kinddemand_output(const OmDemandModel *model, const OmDemandItem *item,
								   const char *product_id, int32 start, int32 ndays);

#define OM_DEMAND_MAX_DAYS 366

extern void om_kinddemand_init(void);

#endif /* OM_KINDDEMAND_H */
