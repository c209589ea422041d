/*
 * listing.h
 *		Lists of orders: by time, by customer, by reference.
 */
#ifndef OM_LISTING_H
#define OM_LISTING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/uuid.h"

#include "names.h"

#define OM_LISTING_NCOLUMNS 9

/* Which orders. */
typedef struct OmListing
{
	const char *customer_id;      /* NULL: of all */
	const char *order_ref;        /* NULL: any */
	const char *status;           /* NULL: any */
	bool (*admits)(Datum status); /* or those that it wants; NULL: any */
	TimestampTz since;            /* since <= created_at < until */
	TimestampTz until;
	const pg_uuid_t *after; /* only those that come later in the list; NULL: all */
	bool oldest_first;      /* then without "after" and "limit" */
	int64 limit;
} OmListing;

/* Columns: order_id, created_at, customer_id, order_ref, status, reasons, total, metadata, updated_at. */
typedef void (*OmListingVisitor)(Datum *values, bool *isnull, void *arg);

/* Newest first unless asked otherwise, as the active snapshot shows them. */
extern void om_listing_walk(const OmListing *listing, OmListingVisitor visit, void *arg);

#endif /* OM_LISTING_H */
