/*
 * orders.h
 *		Orders and their lines, as rows of the monthly partitions.
 */
#ifndef OM_ORDERS_H
#define OM_ORDERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "names.h"
#include "tables.h"

/* Columns of table orders, for who reads its rows by other ways (listing.c) */
enum
{
	ORDER_ID = 1,
	ORDER_CREATED_AT,
	ORDER_CUSTOMER_ID,
	ORDER_REF,
	ORDER_STATUS,
	ORDER_SETTLED,
	ORDER_ROUND,
	ORDER_REASONS,
	ORDER_TOTAL,
	ORDER_METADATA,
	ORDER_TRAIL,
	ORDER_UPDATED_AT,
	ORDER_NCOLUMNS = ORDER_UPDATED_AT
};

/*
 * The partitions that a call or batch has touched so far, kept open.  Those of a
 * batch also remember the orders that have been read, so that each is read once,
 * and write at the end what has become of them, once.
 */
typedef struct OmOrderTables
{
	LOCKMODE lockmode;
	List *leaves;
	struct known_hash *known; /* or NULL */
	List *changed;            /* known orders to be written */
} OmOrderTables;

/* The two verdicts on an order, as bits. */
#define OM_VERDICT_BALANCE 1
#define OM_VERDICT_STOCK 2
#define OM_VERDICTS_BOTH 3

/* And this one says that it came as history: nothing was held or posted for it. */
#define OM_VERDICTS_OF_IMPORT 7

typedef struct OmNeed
{
	char *product_id;
	int64 quantity;              /* sum of all lines of the product */
	struct OmLedgerEntry *stock; /* when it is locked (settlement.c) */
} OmNeed;

typedef struct OmOrder
{
	pg_uuid_t id;
	TimestampTz created_at;
	char *customer_id;
	int64 total;
	OmStatus status;
	int settled;    /* verdicts that need no more: posted, released, refused */
	int round;      /* how often it was taken up again after it had failed */
	uint32 reasons; /* bits by OmReason */
	int ntrail;
	int64 *trail; /* transactions that wrote its events */
	TimestampTz updated_at;
	int nneeds;                    /* after om_order_load_needs() */
	OmNeed *needs;                 /* by product_id */
	struct OmLedgerEntry *account; /* when it is locked (settlement.c) */
	HeapTuple row;
	bool locked;  /* and so is this version; for orders of a batch */
	bool changed; /* and is written at its end */
	struct OmOrderLeaf *leaf;

	/* Of an order in an archive, which has neither row nor leaf */
	bool cold;
	char *cold_ref;
	Jsonb *cold_metadata;
} OmOrder;

typedef struct OmLine
{
	int line_no;
	char *product_id;
	int32 quantity;
	int64 unit_price;
} OmLine;

typedef struct OmNewLine
{
	Datum product_id; /* text */
	int32 quantity;
	int64 unit_price;
} OmNewLine;

typedef struct OmNewOrder
{
	pg_uuid_t id;
	Datum customer_id; /* text */
	Datum order_ref;   /* text, or 0 */
	Jsonb *metadata;
	int64 total;
	int nlines;
	OmNewLine *lines;
	bool imported; /* has been shipped elsewhere */
} OmNewOrder;

extern OmOrderTables *om_orders_open(LOCKMODE lockmode);
extern void om_orders_close(OmOrderTables *tables);

/* The same for a batch of about so many. */
extern OmOrderTables *om_orders_open_batch(int expected);

/* Reads many at a time, with their needs where wanted. */
extern void om_orders_read(OmOrderTables *tables, const pg_uuid_t *ids, int count, bool with_needs);

/* Writes those that have changed. */
extern void om_orders_write(OmOrderTables *tables);

extern void om_order_insert(OmOrderTables *tables, const OmNewOrder *order, int64 lxid);

/* NULL when there is no such order. */
extern OmOrder *om_order_find(OmOrderTables *tables, const pg_uuid_t *id, Snapshot snapshot);

/* The same of a month that is in an archive, for reading: its state never changes there. */
extern OmOrder *om_order_find_cold(const pg_uuid_t *id);
extern OmOrder *om_order_lock(OmOrderTables *tables, const pg_uuid_t *id);

/* Locks an order that has been found and brings its state up to date. */
extern void om_order_relock(OmOrder *order);

/* The same without waiting for clients: false when somebody else has locked it. */
extern bool om_order_relock_if_free(OmOrder *order);

/* Sorts by product and makes one of several needs of the same; returns how many remain. */
extern int om_needs_sum(OmNeed *needs, int count);

/* Sums its lines by product. */
extern void om_order_load_needs(OmOrderTables *tables, OmOrder *order, Snapshot snapshot);

/* Its lines, in order, as a list of OmLine. */
extern List *om_order_lines(OmOrderTables *tables, OmOrder *order, Snapshot snapshot);

/* Further columns, while the tables are open; a missing order_ref is NULL. */
extern char *om_order_ref(OmOrder *order);
extern Jsonb *om_order_metadata(OmOrder *order);

/* True when the version that was read was written by the current transaction. */
extern bool om_order_is_own(const OmOrder *order);

/* The current transaction's events belong to the order's trail. */
extern void om_order_add_to_trail(OmOrder *order, int64 lxid);

/* Writes status, settled, reasons and trail of a locked order; that of a batch, at its end. */
extern void om_order_write(OmOrder *order);

extern int om_order_compare_ids(const void *a, const void *b);

#endif /* OM_ORDERS_H */
