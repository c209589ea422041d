/*
 * loader.c
 *		Stands in for the engine: counts the lines of a file, and refuses those
 *		with a field "bad".  It writes nothing.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "errors.h"
#include "jsonout.h"
#include "loader.h"

static void
read_file(OmLoad *load, StringInfo text)
{
	FILE *file = AllocateFile(load->source, "r");
	char buffer[8192];
	size_t size;

	if (file == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
						errmsg("could not open file \"%s\": %m", load->source),
						errhint("Check the path.")));
	while ((size = fread(buffer, 1, sizeof(buffer), file)) > 0)
		appendBinaryStringInfo(text, buffer, size);
	FreeFile(file);
}

static void
read_parts(OmLoad *load, StringInfo text)
{
	bytea *part;

	for (int64 i = 1; (part = om_load_get_part(load->load_id, i)) != NULL; i++)
		appendBinaryStringInfo(text, VARDATA_ANY(part), VARSIZE_ANY_EXHDR(part));
}

static void
do_line(OmLoad *load, const char *line)
{
	load->rows_read++;
	load->done_records++;
	if (strstr(line, ",bad") == NULL)
	{
		load->rows_loaded++;
		return;
	}
	load->rows_rejected++;
	om_load_error(load, load->rows_read, load->rows_read + 1, "quantity", ERRCODE_OM_INVALID,
				  "is bad", line, strlen(line));
}

void
om_loader_run(OmLoad *load)
{
	int64 batch = Max(om_json_get_int(load->options, "batch_rows"), 1);
	StringInfoData text;
	int64 row = -1;

	MemoryContextSwitchTo(load->context);
	initStringInfo(&text);
	if (load->source[0] == '/')
		read_file(load, &text);
	else
		read_parts(load, &text);
	load->bytes_total = load->bytes_read = text.len;
	load->status = OM_LOAD_WRITING;
	for (char *line = strtok(text.data, "\n"); line != NULL; line = strtok(NULL, "\n"), row++)
	{
		if (row == -1)
			load->header = pstrdup(line);
		if (row < load->done_records)
			continue;
		do_line(load, line);
		if (load->done_records % batch == 0)
			om_load_commit(load);
	}
}
