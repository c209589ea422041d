/*
 * api_loading.c
 *		Looking at CSV files.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "bytes.h"
#include "csvreader.h"
#include "installation.h"
#include "loadoptions.h"
#include "loadprofiles.h"
#include "options.h"
#include "uploads.h"

static OmBytes *
open_source(const char *source)
{
	const char *rest;

	if ((rest = om_arg_behind(source, "lo:")) != NULL)
		return om_bytes_open_large_object(om_arg_large_object_id(rest));
	if ((rest = om_arg_behind(source, "text:")) != NULL)
		return om_bytes_open_text(rest, strlen(rest));
	if ((rest = om_arg_behind(source, "upload:")) != NULL)
		return om_upload_open(om_upload_lock(om_arg_upload_id(rest)));
	om_arg_require_server_files("read");
	return om_bytes_open_file(source);
}

static Datum
make_cells(const OmCsvRecord *record)
{
	Datum *cells = palloc(sizeof(Datum) * record->ncells);
	bool *isnull = palloc(sizeof(bool) * record->ncells);
	int lower = 1;
	int count = record->ncells;

	for (int i = 0; i < count; i++)
	{
		isnull[i] = record->cells[i] == NULL;
		if (!isnull[i])
			cells[i] =
				PointerGetDatum(cstring_to_text_with_len(record->cells[i], record->lengths[i]));
	}
	return PointerGetDatum(
		construct_md_array(cells, isnull, 1, &count, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
put_record(ReturnSetInfo *result, const OmCsvRecord *record)
{
	bool failed = record->sqlstate != 0;
	Datum values[4] = {Int64GetDatum(record->record_no), Int64GetDatum(record->line_no)};
	bool isnull[4] = {false, false, failed, !failed};

	if (failed)
		values[3] = CStringGetTextDatum(record->error);
	else
		values[2] = make_cells(record);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* What is about loads is passed over, so that one may try the options of a load. */
static void
check_keys(Jsonb *options)
{
	const char *others[OM_LOAD_NKEYS + 1] = {"max_records"};

	for (int i = 0; i < OM_LOAD_NKEYS; i++)
		others[i + 1] = om_load_option_keys[i];
	om_dialect_check_keys(options, others, lengthof(others));
}

/* read_csv(source, options) → (record_no, line_no, cells, error) */
OM_FUNCTION(om_read_csv)
{
	char *source = om_arg_required_text(fcinfo, 0, "source");
	Jsonb *options = om_arg_object(fcinfo, 1, "options");
	MemoryContext row =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt CSV row", ALLOCSET_DEFAULT_SIZES);
	int64 wanted;
	OmDialect dialect;
	OmBytes *bytes;
	OmCsvReader *reader;
	OmCsvRecord record;

	(void) om_installation_get();
	if (options != NULL)
		options = om_load_profile_apply(options);
	check_keys(options);
	om_dialect_parse(options, &dialect);
	wanted = om_option_count(options, "max_records", 0, PG_INT64_MAX, PG_INT64_MAX);
	InitMaterializedSRF(fcinfo, 0);
	bytes = open_source(source);
	reader = om_csv_open(bytes, &dialect, NULL);
	while (wanted-- > 0 && om_csv_next(reader, &record))
	{
		MemoryContext caller = MemoryContextSwitchTo(row);

		put_record((ReturnSetInfo *) fcinfo->resultinfo, &record);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(row);
	}
	om_csv_close(reader);
	om_bytes_close(bytes);
	return (Datum) 0;
}
