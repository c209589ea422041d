/*
 * archivemanifest.c
 *		Writes and reads manifests.
 *
 * They are written by hand, line by line, so that people can read them, and
 * read by PostgreSQL's own JSON.  Everything is text in the encoding of the
 * database here; files are UTF-8.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "archivemanifest.h"

static const char hex_digits[] = "0123456789abcdef";

char *
om_manifest_hex(const uint8 sha256[OM_SHA256_SIZE])
{
	char *text = palloc(OM_SHA256_SIZE * 2 + 1);

	for (int i = 0; i < OM_SHA256_SIZE; i++)
	{
		text[i * 2] = hex_digits[sha256[i] >> 4];
		text[i * 2 + 1] = hex_digits[sha256[i] & 15];
	}
	text[OM_SHA256_SIZE * 2] = '\0';
	return text;
}

char **
om_manifest_first_key(const OmArchiveManifest *manifest)
{
	return manifest->nframes == 0 ? NULL : manifest->frames[0].first;
}

char **
om_manifest_last_key(const OmArchiveManifest *manifest)
{
	return manifest->nframes == 0 ? NULL : manifest->frames[manifest->nframes - 1].last;
}

/* ---------- writing ---------- */

static void
put_text(StringInfo json, const char *text)
{
	if (text == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, text);
}

static void
put_texts(StringInfo json, char **texts, int count)
{
	if (texts == NULL)
	{
		appendStringInfoString(json, "null");
		return;
	}
	for (int i = 0; i < count; i++)
	{
		appendStringInfoString(json, i == 0 ? "[" : ", ");
		put_text(json, texts[i]);
	}
	appendStringInfoString(json, "]");
}

static void
put_member(StringInfo json, const char *name, const char *text)
{
	appendStringInfo(json, "  \"%s\": ", name);
	put_text(json, text);
	appendStringInfoString(json, ",\n");
}

static void
put_number(StringInfo json, const char *name, int64 number)
{
	appendStringInfo(json, "  \"%s\": " INT64_FORMAT ",\n", name, number);
}

static void
put_list(StringInfo json, const char *name, char **texts, int count)
{
	appendStringInfo(json, "  \"%s\": ", name);
	put_texts(json, texts, count);
	appendStringInfoString(json, ",\n");
}

static void
put_columns(StringInfo json, const OmArchiveManifest *manifest)
{
	appendStringInfoString(json, "  \"columns\": [\n");
	for (int i = 0; i < manifest->ncolumns; i++)
	{
		appendStringInfoString(json, "    {\"name\": ");
		put_text(json, manifest->columns[i].name);
		appendStringInfoString(json, ", \"type\": ");
		put_text(json, manifest->columns[i].type);
		appendStringInfoString(json, i + 1 < manifest->ncolumns ? "},\n" : "}\n");
	}
	appendStringInfoString(json, "  ],\n");
}

static void
put_frames(StringInfo json, const OmArchiveManifest *manifest)
{
	appendStringInfoString(json, "  \"frames\": [\n");
	for (int i = 0; i < manifest->nframes; i++)
	{
		const OmArchiveFrame *frame = &manifest->frames[i];

		appendStringInfo(json,
						 "    {\"offset\": " INT64_FORMAT ", \"bytes\": " INT64_FORMAT
						 ", \"csv_bytes\": " INT64_FORMAT ", \"rows\": " INT64_FORMAT
						 ", \"first_key\": ",
						 frame->offset, frame->size, frame->raw_size, frame->rows);
		put_texts(json, frame->first, manifest->nkeys);
		appendStringInfoString(json, ", \"last_key\": ");
		put_texts(json, frame->last, manifest->nkeys);
		appendStringInfoString(json, i + 1 < manifest->nframes ? "},\n" : "}\n");
	}
	appendStringInfoString(json, "  ]\n");
}

char *
om_manifest_to_json(const OmArchiveManifest *manifest)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\n");
	put_member(&json, "format", OM_ARCHIVE_FORMAT);
	put_number(&json, "version", OM_ARCHIVE_VERSION);
	put_number(&json, "schema_version", manifest->schema_version);
	put_member(&json, "database", manifest->database);
	put_member(&json, "schema", manifest->schema_name);
	put_member(&json, "table", manifest->table_name);
	put_member(&json, "owner", manifest->owner);
	put_member(&json, "partition", manifest->partition_name);
	put_member(&json, "month", manifest->month);
	put_member(&json, "from", manifest->lower_bound);
	put_member(&json, "to", manifest->upper_bound);
	put_member(&json, "archived_at", manifest->archived_at);
	put_number(&json, "rows", manifest->rows);
	put_number(&json, "bytes", manifest->packed_size);
	put_number(&json, "csv_bytes", manifest->raw_size);
	put_member(&json, "sha256", om_manifest_hex(manifest->sha256));
	put_member(&json, "csv_sha256", om_manifest_hex(manifest->raw_sha256));
	put_member(&json, "time_column", manifest->time_column);
	put_member(&json, "first_time", manifest->first_at);
	put_member(&json, "last_time", manifest->last_at);
	put_columns(&json, manifest);
	put_list(&json, "key", manifest->keys, manifest->nkeys);
	put_list(&json, "first_key", om_manifest_first_key(manifest), manifest->nkeys);
	put_list(&json, "last_key", om_manifest_last_key(manifest), manifest->nkeys);
	put_number(&json, "header_bytes", manifest->header_size);
	put_frames(&json, manifest);
	appendStringInfoString(&json, "}\n");
	return pg_server_to_any(json.data, json.len, PG_UTF8);
}

/* ---------- reading ---------- */

typedef struct Source
{
	const char *file;
	JsonbContainer *object;
} Source;

static void
raise_malformed(const Source *source, const char *member)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("manifest \"%s\" is damaged", source->file),
			 errdetail("Member \"%s\" is missing or of another type.", member),
			 errhint("Bring the file back from a backup. Nothing has changed.")));
}

static JsonbValue *
get_member(const Source *source, const char *name, enum jbvType type)
{
	JsonbValue *value = getKeyJsonValueFromContainer(source->object, name, strlen(name), NULL);

	if (value == NULL || value->type != type)
		raise_malformed(source, name);
	return value;
}

static bool
is_null(const Source *source, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(source->object, name, strlen(name), NULL);

	return value != NULL && value->type == jbvNull;
}

static char *
get_text(const Source *source, const char *name)
{
	JsonbValue *value = get_member(source, name, jbvString);

	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* A member that has come later. */
static char *
find_text(const Source *source, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(source->object, name, strlen(name), NULL);

	return value == NULL || value->type != jbvString
			 ? NULL
			 : pnstrdup(value->val.string.val, value->val.string.len);
}

static int64
get_number(const Source *source, const char *name)
{
	JsonbValue *value = get_member(source, name, jbvNumeric);

	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

/* A count that memory is reserved by. */
static JsonbContainer *
get_array(const Source *source, const char *name, int *count)
{
	JsonbValue *value = get_member(source, name, jbvBinary);

	if (!JsonContainerIsArray(value->val.binary.data))
		raise_malformed(source, name);
	*count = JsonContainerSize(value->val.binary.data);
	return value->val.binary.data;
}

/* An element that is an object. */
static Source
get_element(const Source *source, JsonbContainer *array, int i, const char *name)
{
	JsonbValue *value = getIthJsonbValueFromContainer(array, i);

	if (value == NULL || value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		raise_malformed(source, name);
	return (Source){source->file, value->val.binary.data};
}

/* As many as expected, where that is not negative. */
static char **
get_texts(const Source *source, const char *name, int expected, int *count)
{
	JsonbContainer *array = get_array(source, name, count);
	char **texts = palloc(sizeof(char *) * Max(*count, 1));

	if (expected >= 0 && *count != expected)
		raise_malformed(source, name);
	for (int i = 0; i < *count; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);

		if (value->type != jbvString && value->type != jbvNull)
			raise_malformed(source, name);
		texts[i] =
			value->type == jbvNull ? NULL : pnstrdup(value->val.string.val, value->val.string.len);
	}
	return texts;
}

static void
get_sha256(const Source *source, const char *name, uint8 *sha256)
{
	char *text = get_text(source, name);

	if (strlen(text) != OM_SHA256_SIZE * 2 ||
		strspn(text, "0123456789abcdef") != OM_SHA256_SIZE * 2)
		raise_malformed(source, name);
	for (int i = 0; i < OM_SHA256_SIZE; i++)
		sha256[i] = (uint8) ((strchr(hex_digits, text[i * 2]) - hex_digits) << 4 |
							 (strchr(hex_digits, text[i * 2 + 1]) - hex_digits));
}

static void
get_columns(const Source *source, OmArchiveManifest *manifest)
{
	JsonbContainer *array = get_array(source, "columns", &manifest->ncolumns);

	manifest->columns = palloc(sizeof(OmArchiveColumn) * Max(manifest->ncolumns, 1));
	for (int i = 0; i < manifest->ncolumns; i++)
	{
		Source column = get_element(source, array, i, "columns");

		manifest->columns[i].name = get_text(&column, "name");
		manifest->columns[i].type = get_text(&column, "type");
	}
}

static void
get_frames(const Source *source, OmArchiveManifest *manifest)
{
	JsonbContainer *array = get_array(source, "frames", &manifest->nframes);
	int count;

	manifest->frames = palloc(sizeof(OmArchiveFrame) * Max(manifest->nframes, 1));
	for (int i = 0; i < manifest->nframes; i++)
	{
		Source element = get_element(source, array, i, "frames");
		OmArchiveFrame *frame = &manifest->frames[i];

		frame->offset = get_number(&element, "offset");
		frame->size = get_number(&element, "bytes");
		frame->raw_size = get_number(&element, "csv_bytes");
		frame->rows = get_number(&element, "rows");
		frame->first = get_texts(&element, "first_key", manifest->nkeys, &count);
		frame->last = get_texts(&element, "last_key", manifest->nkeys, &count);
	}
}

static void
require_format(const Source *source)
{
	char *format = get_text(source, "format");
	int64 version = get_number(source, "version");

	if (strcmp(format, OM_ARCHIVE_FORMAT) != 0 || version != OM_ARCHIVE_VERSION)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("manifest \"%s\" is of format \"%s\", version " INT64_FORMAT,
							   source->file, format, version),
						errhint("This library reads \"%s\", version %d.", OM_ARCHIVE_FORMAT,
								OM_ARCHIVE_VERSION)));
}

OmArchiveManifest *
om_manifest_from_json(const char *json, const char *file)
{
	char *text = pg_any_to_server(json, strlen(json), PG_UTF8);
	Jsonb *document = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	Source source = {file, &document->root};
	OmArchiveManifest *manifest = palloc0(sizeof(OmArchiveManifest));

	if (!JB_ROOT_IS_OBJECT(document))
		raise_malformed(&source, "format");
	require_format(&source);
	manifest->schema_version = (int) get_number(&source, "schema_version");
	manifest->database = get_text(&source, "database");
	manifest->schema_name = get_text(&source, "schema");
	manifest->table_name = get_text(&source, "table");
	manifest->owner = find_text(&source, "owner");
	manifest->partition_name = get_text(&source, "partition");
	manifest->month = get_text(&source, "month");
	manifest->lower_bound = get_text(&source, "from");
	manifest->upper_bound = get_text(&source, "to");
	manifest->archived_at = get_text(&source, "archived_at");
	manifest->rows = get_number(&source, "rows");
	manifest->packed_size = get_number(&source, "bytes");
	manifest->raw_size = get_number(&source, "csv_bytes");
	manifest->header_size = get_number(&source, "header_bytes");
	get_sha256(&source, "sha256", manifest->sha256);
	get_sha256(&source, "csv_sha256", manifest->raw_sha256);
	manifest->time_column = get_text(&source, "time_column");
	if (!is_null(&source, "first_time"))
	{
		manifest->first_at = get_text(&source, "first_time");
		manifest->last_at = get_text(&source, "last_time");
	}
	get_columns(&source, manifest);
	manifest->keys = get_texts(&source, "key", -1, &manifest->nkeys);
	get_frames(&source, manifest);
	return manifest;
}
