/*
 * evaluation.h
 *		Measures how good a model is.
 */
#ifndef OM_EVALUATION_H
#define OM_EVALUATION_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef void (*OmMetricSink)(void *arg, const char *metric, double value);

/*
 * Calls sink for each metric.  Options: "version"; those that the kind knows; for
 * kinds that do not measure themselves "query", "label", "score", "task" and
 * "threshold".  OM001: they cannot be.
 */
extern void om_model_evaluate(const char *name, Jsonb *options, OmMetricSink sink, void *arg);

#endif /* OM_EVALUATION_H */
