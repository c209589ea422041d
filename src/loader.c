/*
 * loader.c
 *		A load, from its first byte to its last row.
 *
 * The file is read twice.  The first time it is only looked at: how much there
 * is, whether it has been loaded before, and which orders do not stand
 * together.  The second time its rows are written, in batches that each commit
 * with the position that they have reached.  Who takes a load up again reads
 * the file from its beginning and passes over what has been committed; so all
 * that has to survive is two numbers.
 *
 * In the second reading orders are written as they come, up to row
 * "done_records".  Those whose rows are scattered are collected on the way and
 * written after all others, in the order of their references; "done_sorted" of
 * them are done.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "loader.h"
#include "loadfeed.h"
#include "loadgroups.h"
#include "loadmasters.h"
#include "loadoptions.h"
#include "loadorders.h"
#include "loadpast.h"
#include "loadrequests.h"
#include "locks.h"

/* How often the first reading says how far it is. */
#define ROWS_PER_REPORT 100000

typedef struct Loader
{
	OmLoad *load;
	OmLoadOptions options;
	OmLoadScatter *scatter; /* of orders */
	OmLoadSorter *sorter;   /* of orders; NULL: nothing is scattered */
	OmLoadOrders target;    /* of orders */
	int64 nrows;            /* as the first reading has found, and the size */
	int64 size;
	char *ref_before; /* of the last row that had been done; NULL: none */

	/* The batch under way. */
	MemoryContext batch_context;
	OmLoadGroup **groups;
	int ngroups;
	int capacity;
	int nrows_in_batch;
	Size size_of_batch;
	int64 nread; /* rows that were read since the batch before */
} Loader;

/* More bytes of the file has no batch. */
#define MAX_BATCH_SIZE ((Size) 8 * 1024 * 1024)

/* An empty reference is none. */
static const char *
ref_of(const OmLoadRow *row)
{
	const char *ref = row->cells[OM_ORDERS_REF];

	return ref != NULL && *ref != '\0' ? ref : NULL;
}

/* ---------- the first reading ---------- */

static void
report_reading(Loader *loader, OmLoadFeed *feed)
{
	loader->load->bytes_read = om_load_feed_position(feed);
	loader->load->rows_read = loader->nrows;
	om_load_commit(loader->load);
}

static void
look_at_rows(Loader *loader, OmLoadFeed *feed)
{
	OmLoadRow row;

	loader->nrows = 0;
	while (om_load_feed_next(feed, &row))
	{
		loader->nrows++;
		if (loader->scatter != NULL)
			om_load_scatter_add(loader->scatter, ref_of(&row), row.sqlstate == 0);
		if (loader->nrows % ROWS_PER_REPORT == 0)
			report_reading(loader, feed);
		else if (loader->nrows % 1000 == 0)
			CHECK_FOR_INTERRUPTS();
	}
}

/* What has been committed belongs to no bytes that anybody could load again. */
static void
refuse_changed(OmLoad *load)
{
	load->has_sha256 = false;
	om_load_commit(load);
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
					errmsg("%s has changed while it was being loaded", load->source),
					om_errdetail("source", load->source),
					errhint("What had been committed stays; load the whole file again.")));
}

/* The same bytes as when the load was begun. */
static void
check_digest(OmLoad *load, OmLoadFeed *feed)
{
	uint8 digest[OM_SHA256_SIZE];

	om_load_feed_digest(feed, digest);
	if (load->has_sha256 && memcmp(digest, load->sha256, sizeof(digest)) != 0)
		refuse_changed(load);
	memcpy(load->sha256, digest, sizeof(digest));
	load->has_sha256 = true;
}

static void
take_in(Loader *loader)
{
	OmLoad *load = loader->load;
	OmLoadFeed *feed = om_load_feed_open(load, &loader->options);

	load->status = OM_LOAD_READING;
	load->bytes_total = loader->size = om_load_feed_size(feed);
	if (load->kind == OM_LOAD_ORDERS)
		loader->scatter = om_load_scatter_create();
	look_at_rows(loader, feed);
	if (loader->scatter != NULL)
		om_load_scatter_end(loader->scatter);
	load->bytes_read = om_load_feed_position(feed);
	load->bytes_total = load->bytes_read;
	load->rows_read = load->done_records;
	check_digest(load, feed);
	om_load_feed_close(feed);
	om_load_commit(load);
	OM_FAULT_POINT("loader/taken-in");
}

/* ---------- batches ---------- */

static void
refuse_too_many_errors(const Loader *loader)
{
	if (loader->options.max_errors < 0 || loader->load->rows_rejected <= loader->options.max_errors)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD),
			 errmsg("more than " INT64_FORMAT " rows were refused", loader->options.max_errors),
			 om_errdetail("max_errors", psprintf(INT64_FORMAT, loader->options.max_errors)),
			 errhint("order_mgmt.load_errors says why. What had been committed stays.")));
}

static void
write_batch(Loader *loader)
{
	MemoryContext caller = MemoryContextSwitchTo(loader->batch_context);

	if (loader->ngroups > 0 && loader->load->kind == OM_LOAD_ORDERS)
		om_load_orders_write(&loader->target, loader->groups, loader->ngroups);
	for (int i = 0; i < loader->ngroups && loader->load->kind != OM_LOAD_ORDERS; i++)
		om_load_masters_write(loader->load, &loader->options, loader->groups[i]);
	MemoryContextSwitchTo(caller);
}

static void
begin_batch(Loader *loader)
{
	MemoryContextReset(loader->batch_context);
	loader->ngroups = loader->nrows_in_batch = 0;
	loader->size_of_batch = 0;
	loader->nread = 0;
}

/* Writes it, and commits that this much is done. */
static void
end_batch(Loader *loader)
{
	OmLoad *load = loader->load;

	OM_FAULT_POINT("loader/before-batch");
	write_batch(loader);
	if (loader->nrows > 0)
		load->progress = (double) om_load_rows_done(load) / loader->nrows;
	om_load_commit(load);
	OM_FAULT_POINT("loader/batch-committed");
	refuse_too_many_errors(loader);
	begin_batch(loader);
}

static bool
is_batch_full(const Loader *loader)
{
	return loader->nrows_in_batch >= loader->options.batch_rows ||
		   loader->size_of_batch >= MAX_BATCH_SIZE;
}

static void
add_group(Loader *loader, OmLoadGroup *group)
{
	if (loader->ngroups == loader->capacity)
	{
		loader->capacity *= 2;
		loader->groups = repalloc(loader->groups, sizeof(OmLoadGroup *) * loader->capacity);
	}
	loader->groups[loader->ngroups++] = group;
	loader->nrows_in_batch += group->nrows;
	loader->size_of_batch += group->size;
}

/* ---------- the second reading: orders ---------- */

/* Every row up to this one has been dealt with, or is with the sorter, which reads it again. */
static void
set_done(OmLoad *load, int64 up_to)
{
	load->done_records = up_to;
	load->rows_read = up_to;
}

/* Where all rows of an order have been read; then its batch may be full. */
static void
close_group(Loader *loader, OmLoadGroup **group, int64 up_to)
{
	if (*group == NULL)
		return;
	add_group(loader, *group);
	*group = NULL;
	set_done(loader->load, up_to);
	if (is_batch_full(loader))
		end_batch(loader);
}

static bool
belongs_to(const OmLoadGroup *group, const char *ref)
{
	return group != NULL && group->ref != NULL && ref != NULL && strcmp(group->ref, ref) == 0;
}

/* An order ends before what has been done does, unless it was cut into pieces. */
static bool
follows_done_piece(Loader *loader, const char *ref)
{
	bool follows =
		ref != NULL && loader->ref_before != NULL && strcmp(ref, loader->ref_before) == 0;

	if (loader->ref_before != NULL)
		pfree(loader->ref_before);
	loader->ref_before = NULL;
	return follows;
}

static void
add_row(Loader *loader, OmLoadGroup **group, const OmLoadRow *row, const char *ref)
{
	int ncolumns = loader->options.columns.count;
	bool goes_on = belongs_to(*group, ref);
	bool is_piece = goes_on && om_load_group_is_full(*group);
	MemoryContext caller;

	if (is_piece)
		(*group)->is_piece = true;
	if (!goes_on || is_piece)
		close_group(loader, group, row->row_no - 1);
	if (*group == NULL)
		is_piece |= follows_done_piece(loader, ref);
	caller = MemoryContextSwitchTo(loader->batch_context);
	if (*group != NULL)
		om_load_group_add(*group, row, ncolumns);
	else
	{
		*group = om_load_group_create(ref, row, ncolumns);
		(*group)->is_piece = is_piece;
	}
	MemoryContextSwitchTo(caller);
}

static void
take_row(Loader *loader, OmLoadGroup **group, const OmLoadRow *row, int64 done_before)
{
	const char *ref = ref_of(row);
	bool is_new = row->row_no > done_before;

	if (om_load_scatter_has(loader->scatter, ref))
	{
		close_group(loader, group, row->row_no - 1);
		if (loader->sorter == NULL)
			loader->sorter = om_load_sorter_create(loader->options.columns.count);
		om_load_sorter_put(loader->sorter, ref, row);
	}
	else if (is_new)
		add_row(loader, group, row, ref);
	else if (row->row_no == done_before && ref != NULL)
		loader->ref_before = pstrdup(ref);
	if (++loader->nread >= ROWS_PER_REPORT && *group == NULL)
		end_batch(loader); /* of rows for the sorter, or of none: somebody may want an end */
}

static void
free_sorter(Loader *loader)
{
	if (loader->sorter != NULL)
		om_load_sorter_free(loader->sorter);
	loader->sorter = NULL;
}

static void
write_sorted(Loader *loader)
{
	OmLoad *load = loader->load;
	int64 done_before = load->done_sorted;
	int64 position = 0;

	if (loader->sorter == NULL)
		return;
	om_load_sorter_sort(loader->sorter);
	for (;;)
	{
		MemoryContext caller = MemoryContextSwitchTo(loader->batch_context);
		OmLoadGroup *group = om_load_sorter_next(loader->sorter);

		MemoryContextSwitchTo(caller);
		if (group == NULL)
			break;
		if (++position <= done_before)
		{
			MemoryContextReset(loader->batch_context);
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		add_group(loader, group);
		load->done_sorted = position;
		if (is_batch_full(loader))
			end_batch(loader);
	}
	end_batch(loader);
	free_sorter(loader);
}

static void
write_orders(Loader *loader, OmLoadFeed *feed)
{
	OmLoad *load = loader->load;
	int64 done_before = load->done_records;
	int64 last = 0;
	OmLoadGroup *group = NULL;
	OmLoadRow row;

	loader->target = (OmLoadOrders){load, &loader->options,
									om_order_refs_open(om_load_scatter_nrefs(loader->scatter))};
	while (om_load_feed_next(feed, &row))
	{
		take_row(loader, &group, &row, done_before);
		last = row.row_no;
		load->bytes_read = om_load_feed_position(feed);
	}
	close_group(loader, &group, last);
	set_done(load, last);
	end_batch(loader);
	write_sorted(loader);
	om_order_refs_close(loader->target.refs);
}

/* ---------- the second reading: master data ---------- */

/* All rows of a batch are one group. */
static void
add_master(Loader *loader, const OmLoadRow *row)
{
	int ncolumns = loader->options.columns.count;
	MemoryContext caller = MemoryContextSwitchTo(loader->batch_context);

	if (loader->ngroups == 0)
		add_group(loader, om_load_group_create(NULL, row, ncolumns));
	else
		om_load_group_add(loader->groups[0], row, ncolumns);
	MemoryContextSwitchTo(caller);
	loader->nrows_in_batch = loader->groups[0]->nrows;
	loader->size_of_batch = loader->groups[0]->size;
}

static void
write_masters(Loader *loader, OmLoadFeed *feed)
{
	OmLoad *load = loader->load;
	int64 done_before = load->done_records;
	OmLoadRow row;

	while (om_load_feed_next(feed, &row))
	{
		if (row.row_no <= done_before)
			continue;
		add_master(loader, &row);
		set_done(load, row.row_no);
		load->bytes_read = om_load_feed_position(feed);
		if (is_batch_full(loader))
			end_batch(loader);
	}
	end_batch(loader);
}

/* ---------- all of it ---------- */

static void
write_rows(Loader *loader)
{
	OmLoad *load = loader->load;
	OmLoadFeed *feed = om_load_feed_open(load, &loader->options);

	if (om_load_feed_size(feed) != loader->size)
		refuse_changed(load);
	load->status = OM_LOAD_WRITING;
	load->progress = 0;
	if (load->kind == OM_LOAD_ORDERS)
		write_orders(loader, feed);
	else
		write_masters(loader, feed);
	check_digest(load, feed);
	om_load_feed_close(feed);
}

static bool
is_keyed(const Loader *loader)
{
	return loader->scatter == NULL || om_load_scatter_is_keyed(loader->scatter);
}

static void
refuse_other_options(const OmLoad *load, const OmLoadPart *part)
{
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
					errmsg("%s has been loaded in part by load " INT64_FORMAT " with other options",
						   load->source, part->load_id),
					om_errdetail("source", load->source),
					errhint("With the same options it goes on where that ended.")));
}

/* A load that did not come to its end has left off somewhere; what it has done is passed over. */
static void
go_on_after_others(Loader *loader)
{
	OmLoad *load = loader->load;
	OmLoadPart part = om_loadpast_find_part(load);

	if (part.load_id == 0)
		return;
	if (part.same_options)
	{
		set_done(load, part.done_records);
		load->done_sorted = part.done_sorted;
		load->rows_skipped = part.rows;
		load->orders_skipped = part.orders;
	}
	else if (!is_keyed(loader))
		refuse_other_options(load, &part);
}

/* Nothing is done twice: a file that has been loaded before is left alone. */
static bool
has_been_loaded(Loader *loader)
{
	OmLoad *load = loader->load;

	if (load->done_records > 0 || load->done_sorted > 0)
		return false; /* this load itself goes on */
	/* Of a retry what has been loaded is known by its references, if it has any. */
	if ((load->retry_of == 0 || !is_keyed(loader)) &&
		om_loadpast_find_same(load, is_keyed(loader)) != 0)
		return true;
	go_on_after_others(loader);
	return false;
}

static Loader *
create_loader(OmLoad *load)
{
	Loader *loader = palloc0(sizeof(Loader));

	loader->load = load;
	om_load_options_parse(&loader->options, load->kind, load->mode, load->options);
	loader->batch_context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt batch", ALLOCSET_DEFAULT_SIZES);
	loader->capacity = 1024;
	loader->groups = palloc(sizeof(OmLoadGroup *) * loader->capacity);
	return loader;
}

void
om_loader_run(OmLoad *load)
{
	MemoryContext context =
		AllocSetContextCreate(load->context, "order_mgmt loader", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Loader *loader = create_loader(load);

	PG_TRY();
	{
		take_in(loader);
		if (!has_been_loaded(loader))
			write_rows(loader);
	}
	PG_FINALLY();
	{
		free_sorter(loader);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

void
om_loader_run_without_worker(int64 load_id)
{
	OmLoad *load;

	if (om_loadrequest_has_worker())
		return;
	om_lock_acquire(OM_LOCK_LOADER);
	load = om_load_get(load_id);
	load->in_caller = true;
	om_load_begin(load);
	om_loader_run(load);
	om_load_finish(load);
	CommandCounterIncrement();
}
