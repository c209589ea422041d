/*
 * loadoptions.h
 *		Options of a load: which cell of the file is which of our columns, and
 *		what to do with what cannot be loaded.
 */
#ifndef OM_LOADOPTIONS_H
#define OM_LOADOPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "csvreader.h"
#include "dialect.h"
#include "loadcells.h"
#include "names.h"

#define OM_LOAD_MAX_COLUMNS 8

/* Columns of each kind of file, in the order in which a file without header has them. */
enum
{
	OM_ORDERS_REF,
	OM_ORDERS_CUSTOMER_ID,
	OM_ORDERS_PRODUCT_ID,
	OM_ORDERS_QUANTITY,
	OM_ORDERS_UNIT_PRICE,
	OM_ORDERS_CREATED_AT,
	OM_ORDERS_METADATA
};

enum
{
	OM_ACCOUNTS_CUSTOMER_ID,
	OM_ACCOUNTS_BALANCE,
	OM_ACCOUNTS_NAME,
	OM_ACCOUNTS_EMAIL,
	OM_ACCOUNTS_METADATA
};

enum
{
	OM_PRODUCTS_PRODUCT_ID,
	OM_PRODUCTS_NAME,
	OM_PRODUCTS_UNIT_PRICE,
	OM_PRODUCTS_METADATA
};

enum
{
	OM_STOCK_PRODUCT_ID,
	OM_STOCK_ON_HAND
};

typedef struct OmLoadColumns
{
	int count;
	const char *names[OM_LOAD_MAX_COLUMNS];
	uint32 required; /* bits by column */
} OmLoadColumns;

/* Where a column of ours comes from. */
typedef struct OmLoadCell
{
	bool is_named;         /* in the options */
	const char *header;    /* NULL: by position */
	int position;          /* from 1 */
	const char *otherwise; /* where the cell is NULL, or the file has no such column; or NULL */
} OmLoadCell;

typedef struct OmLoadOptions
{
	OmDialect dialect;
	OmCellStyle style;
	OmLoadColumns columns;
	OmLoadCell cells[OM_LOAD_MAX_COLUMNS];
	bool refuse_known; /* an order_ref that has an order is an error, and not passed over */
	bool dry_run;
	int64 max_errors; /* the load ends when more rows are refused; -1: never */
	int batch_rows;
} OmLoadOptions;

/* The keys that are about loads, beside those of a dialect. */
#define OM_LOAD_NKEYS 9
extern const char *const om_load_option_keys[OM_LOAD_NKEYS];

/* OM001 for what is wrong whatever is loaded. */
extern void om_load_options_check(Jsonb *json);

/* OM001 for what is wrong in itself. */
extern void om_load_options_parse(OmLoadOptions *options, OmLoadKind kind, OmLoadMode mode,
								  Jsonb *json);

/*
 * For each column of ours the position among the cells, from 0; -1: the file has
 * none.  Header is NULL where there is none.  OM007 where one that must be
 * there is missing.
 */
extern void om_load_options_bind(const OmLoadOptions *options, const OmCsvRecord *header,
								 int *positions);

#endif /* OM_LOADOPTIONS_H */
