/*
 * capture.h
 *		Takes checked requests in: order, lines and event in one transaction.
 */
#ifndef OM_CAPTURE_H
#define OM_CAPTURE_H

#include "postgres.h"

#include "utils/uuid.h"

#include "orders.h"
#include "request.h"

typedef struct OmCapture
{
	OmRequest request;
	OmProblem problem; /* sqlstate 0: captured, or found by its key */
	pg_uuid_t order_id;
	bool created;  /* a new order */
	bool repeated; /* its key has been used before: order_id is that of the first */
	int64 total;
} OmCapture;

/* Fills in missing prices and adds up; sets problem where that cannot be done. */
extern void om_capture_price(OmCapture *captures, int count);

/*
 * Captures all that have no problem; with all_or_nothing, none when one has.
 * Problems found on the way (prices, keys) are set.
 */
extern void om_capture_run(OmCapture *captures, int count, bool all_or_nothing);

/* Writes order and lines of one that has its id and its total. */
extern void om_capture_insert(OmOrderTables *tables, const OmCapture *capture, int64 lxid,
							  bool imported);

#endif /* OM_CAPTURE_H */
