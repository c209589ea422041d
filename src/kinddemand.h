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

/* The item of a product; NULL: it was not ordered in the history. */
extern const OmDemandItem *om_kinddemand_find(const OmDemandModel *model, const char *product_id);

/* The first day that is forecast now, as the model's option "from" says. */
extern int32 om_kinddemand_start(const OmModelInfo *info, const OmDemandModel *model);

#define OM_DEMAND_MAX_DAYS 366

extern void om_kinddemand_init(void);

#endif /* OM_KINDDEMAND_H */
