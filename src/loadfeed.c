/*
 * loadfeed.c
 *		Opens the source of a load and hands out its rows.
 *
 * Every byte passes a digest on its way to the reader: two files are the same
 * if it is, packed or not, and a file that changes while it is read shows.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "utils/resowner.h"

#include "errors.h"
#include "jsonout.h"
#include "loadfeed.h"
#include "loadparts.h"

struct OmLoadFeed
{
	const OmLoadOptions *options;
	OmBytes *source; /* unpacked */
	OmBytes *hashed; /* the same, counted in */
	pg_cryptohash_ctx *hash;
	ResourceOwner owner; /* of the hash, which outlives transactions */
	OmCsvReader *reader;
	OmCsvRecord record;
	int positions[OM_LOAD_MAX_COLUMNS];
	int width; /* cells of a row; 0: that of the first */
	char problem[100];
	bool is_orders;
	StringInfoData ref; /* of a row that cannot be read */
};

/* ---------- bytes ---------- */

static void
fail_to_hash(void)
{
	ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute SHA-256")));
}

static size_t
read_hashed(void *arg, int64 offset pg_attribute_unused(), char *buffer, size_t size)
{
	OmLoadFeed *feed = arg;
	size_t got = om_bytes_read(feed->source, buffer, size);

	if (got > 0 && pg_cryptohash_update(feed->hash, (const uint8 *) buffer, got) < 0)
		fail_to_hash();
	return got;
}

static void
create_hash(OmLoadFeed *feed)
{
	ResourceOwner caller = CurrentResourceOwner;

	feed->owner = ResourceOwnerCreate(NULL, "order_mgmt file");
	CurrentResourceOwner = feed->owner;
	feed->hash = pg_cryptohash_create(PG_SHA256);
	CurrentResourceOwner = caller;
	if (feed->hash == NULL || pg_cryptohash_init(feed->hash) < 0)
		fail_to_hash();
}

static void
free_hash(void *arg)
{
	OmLoadFeed *feed = arg;

	pg_cryptohash_free(feed->hash);
	ResourceOwnerDelete(feed->owner);
}

static OmBytes *
open_source(const OmLoad *load)
{
	if (*load->source == '/')
		return om_bytes_open_file(load->source);
	if (strncmp(load->source, "lo:", 3) == 0)
		return om_bytes_open_large_object((Oid) strtoul(load->source + 3, NULL, 10));
	return om_parts_open(load->load_id, load->source);
}

static void
open_bytes(OmLoadFeed *feed, const OmLoad *load)
{
	OmByteSource source = {
		.read = read_hashed, .close = free_hash, .arg = feed, .name = load->source};

	feed->source = open_source(load);
	create_hash(feed);
	feed->hashed = om_bytes_open_source(&source);
}

/* ---------- header ---------- */

static bool
read_record(OmLoadFeed *feed)
{
	return om_csv_next(feed->reader, &feed->record);
}

static void
refuse_empty(const OmLoad *load)
{
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD), errmsg("%s has no header", load->source),
					om_errdetail("source", load->source),
					errhint("Where it has none on purpose, set options.header to 0.")));
}

static void
refuse_header(const OmLoad *load, const OmCsvRecord *record)
{
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
					errmsg("the header of %s cannot be read: %s", load->source, record->error),
					om_errdetail("source", load->source),
					errhint("Check options such as delimiter, quote and encoding.")));
}

static void
keep_header(OmLoad *load, const OmCsvRecord *record)
{
	if (load->header == NULL)
		load->header =
			MemoryContextStrdup(load->context, pnstrdup(record->raw, record->raw_length));
}

/* The last of the header's rows has the names. */
static void
read_header(OmLoadFeed *feed, OmLoad *load)
{
	if (feed->options->dialect.header == 0)
	{
		om_load_options_bind(feed->options, NULL, feed->positions);
		return;
	}
	do
	{
		if (!read_record(feed))
			refuse_empty(load);
	} while (feed->record.record_no < 0);
	if (feed->record.sqlstate != 0)
		refuse_header(load, &feed->record);
	feed->width = feed->record.ncells;
	keep_header(load, &feed->record);
	om_load_options_bind(feed->options, &feed->record, feed->positions);
}

OmLoadFeed *
om_load_feed_open(OmLoad *load, const OmLoadOptions *options)
{
	OmLoadFeed *feed = palloc0(sizeof(OmLoadFeed));

	feed->options = options;
	feed->is_orders = load->kind == OM_LOAD_ORDERS;
	initStringInfo(&feed->ref);
	open_bytes(feed, load);
	feed->reader = om_csv_open(feed->hashed, &options->dialect, NULL);
	read_header(feed, load);
	return feed;
}

/* ---------- rows ---------- */

static void
check_width(OmLoadFeed *feed, OmLoadRow *row)
{
	int ncells = feed->record.ncells;

	if (feed->width == 0)
		feed->width = ncells;
	if (ncells == feed->width)
		return;
	row->sqlstate = ERRCODE_BAD_COPY_FILE_FORMAT;
	row->error = feed->problem;
	snprintf(feed->problem, sizeof(feed->problem), "the row has %d cells where %d are expected",
			 ncells, feed->width);
}

/* Reads the cell at p; where it ends, or NULL when nobody can tell. */
static const char *
scan_cell(const OmDialect *dialect, const char *p, const char *end, StringInfo cell)
{
	bool quoted;

	while (dialect->trim && p < end && (*p == ' ' || *p == '\t'))
		p++;
	quoted = dialect->quote != '\0' && p < end && *p == dialect->quote;
	resetStringInfo(cell);
	for (p += quoted; p < end && (quoted || *p != dialect->delimiter); p++)
	{
		bool is_quote = quoted && *p == dialect->quote;

		if (is_quote && (p + 1 == end || p[1] != dialect->quote))
			return memchr(p, dialect->delimiter, end - p);
		if (quoted && p + 1 < end && (is_quote || *p == dialect->escape))
			p++;
		appendStringInfoCharMacro(cell, *p);
	}
	return quoted || p == end ? NULL : p;
}

/*
 * The reference of a row that cannot be read, as far as its beginning can: its
 * order is to be refused with it.
 */
static char *
guess_ref(OmLoadFeed *feed, const char *raw, Size size)
{
	const OmDialect *dialect = &feed->options->dialect;
	const char *end = raw + size;
	int position = feed->positions[OM_ORDERS_REF];

	for (int i = 0; i <= position && raw != NULL; i++)
		raw = scan_cell(dialect, raw + (i > 0), end, &feed->ref);
	if (position < 0 || raw == NULL ||
		(dialect->null != NULL && strcmp(feed->ref.data, dialect->null) == 0))
		return unconstify(char *, feed->options->cells[OM_ORDERS_REF].otherwise);
	while (dialect->trim && feed->ref.len > 0 && feed->ref.data[feed->ref.len - 1] == ' ')
		feed->ref.data[--feed->ref.len] = '\0';
	return feed->ref.data;
}

/* As many as there are: a row that is too short still shows which order it belongs to. */
static void
take_cells(const OmLoadFeed *feed, OmLoadRow *row)
{
	for (int i = 0; i < feed->options->columns.count; i++)
	{
		int position = feed->positions[i];

		if (position >= 0 && position < feed->record.ncells)
			row->cells[i] = feed->record.cells[position];
		if (row->cells[i] == NULL)
			row->cells[i] = unconstify(char *, feed->options->cells[i].otherwise);
	}
}

bool
om_load_feed_next(OmLoadFeed *feed, OmLoadRow *row)
{
	const OmCsvRecord *record = &feed->record;

	if (!read_record(feed))
		return false;
	*row = (OmLoadRow){.row_no = record->record_no,
					   .line_no = record->line_no,
					   .sqlstate = record->sqlstate,
					   .error = record->error,
					   .raw = record->raw,
					   .raw_size = record->raw_length,
					   .raw_is_exact = record->raw_is_exact};
	if (row->sqlstate != 0)
	{
		if (feed->is_orders)
			row->cells[OM_ORDERS_REF] = guess_ref(feed, row->raw, row->raw_size);
		return true;
	}
	check_width(feed, row);
	take_cells(feed, row);
	return true;
}

int64
om_load_feed_position(const OmLoadFeed *feed)
{
	return om_bytes_raw_position(feed->source);
}

int64
om_load_feed_size(const OmLoadFeed *feed)
{
	return om_bytes_raw_size(feed->source);
}

void
om_load_feed_digest(OmLoadFeed *feed, uint8 digest[OM_SHA256_SIZE])
{
	if (pg_cryptohash_final(feed->hash, digest, OM_SHA256_SIZE) < 0)
		fail_to_hash();
}

void
om_load_feed_close(OmLoadFeed *feed)
{
	om_csv_close(feed->reader);
	om_bytes_close(feed->hashed);
	om_bytes_close(feed->source);
	pfree(feed);
}
