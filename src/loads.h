/*
 * loads.h
 *		Loads as they are stored: the rows of tables "loads" and "load_errors".
 *
 * Whoever changes rows of "loads" holds OM_LOCK_LOADER; clients only add rows,
 * and ask for a cancellation in a table of its own (loadrequests.c).  So no load
 * waits for a client, whatever that has left open.
 */
#ifndef OM_LOADS_H
#define OM_LOADS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/elog.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "names.h"

#define OM_SHA256_SIZE 32

/* At most so many bytes of a refused record are kept. */
#define OM_LOAD_RAW_MAX 8192

typedef struct OmLoad
{
	/* What is to be loaded; never changes. */
	int64 load_id;
	OmLoadKind kind;
	OmLoadMode mode; /* of orders */
	char *source;
	Jsonb *options;
	char *started_by;
	int64 retry_of; /* 0: none */
	TimestampTz created_at;

	/*
	 * How far it is; om_load_save() stores it.  The engine counts, but for
	 * "errors".  After a restart it finds here what was committed last.
	 */
	OmLoadStatus status;
	int64 bytes_total;
	int64 bytes_read;
	int64 rows_read;
	int64 rows_loaded;
	int64 rows_rejected;
	int64 rows_skipped;
	int64 orders_loaded;
	int64 orders_skipped;
	int64 errors; /* rows of load_errors, and so the last error_no */
	bool has_sha256;
	uint8 sha256[OM_SHA256_SIZE];
	int64 done_records; /* positions up to which everything has been committed */
	int64 done_sorted;
	char *header; /* the header as it stands in the file, for rejected_csv(); NULL: none */

	/*
	 * The share of the work of the present status that is done, 0 to 1, for the
	 * estimate of the end; below 0: not known.  While the status is "reading"
	 * it follows from the bytes.  Not stored.
	 */
	double progress;

	TimestampTz started_at; /* these are set by the functions below; 0: not yet */
	TimestampTz updated_at;
	TimestampTz finished_at;
	TimestampTz estimated_end;
	double rows_per_second;

	bool in_caller;        /* runs in the caller's transaction, which nobody commits */
	MemoryContext context; /* lives as long as the load runs; holds the strings above */

	/* The rest is not the engine's. */
	void (*between)(struct OmLoad *load); /* after each commit, outside what can be undone */
	bool header_saved;
	struct OmTable *error_table; /* with errors that have not been written yet */
	uint32 seen_requests;
	TimestampTz run_since; /* when this process took it up, and where it was then */
	int64 run_rows;
	OmLoadStatus stage; /* the status for which the next two hold */
	TimestampTz stage_since;
	double stage_progress;
} OmLoad;

/* ---------- for the engine ---------- */

typedef struct OmLoadRaw
{
	const char *text; /* NULL: none */
	Size size;
	bool is_exact; /* all of it, as the file has it */
} OmLoadRaw;

/*
 * An error of one row (row_no and line_no: 0 where there is none; column, raw:
 * NULL).  The message must be in the encoding of the database; raw may be
 * anything, and is made valid.
 */
extern void om_load_error(OmLoad *load, int64 row_no, int64 line_no, const char *column,
						  int sqlstate, const char *message, OmLoadRaw raw);

/* Writes the row of "loads", and tells pg_stat_activity. */
extern void om_load_save(OmLoad *load);

/*
 * Writes the errors and the row, commits, and begins the next transaction with
 * an active snapshot (in_caller: none of these two).  The current memory
 * context stays what it was, and must not be one of the transaction; no table
 * may be open.  Raises an error when somebody wants the load cancelled; may end
 * the process.
 */
extern void om_load_commit(OmLoad *load);

/* Loaded, refused or skipped. */
extern int64 om_load_rows_done(const OmLoad *load);

/* ---------- for those who run it ---------- */

/* The load, in a memory context under the current one; NULL: there is none. */
extern OmLoad *om_load_get(int64 load_id);

/* The oldest that has not ended, or NULL.  Hold the lock; the next only asks whether there is one. */
extern OmLoad *om_load_next(void);
extern bool om_load_is_waiting(void);

/* To be called before the engine runs, and after: it is done. */
extern void om_load_begin(OmLoad *load);
extern void om_load_finish(OmLoad *load);

/* Ends it as failed or cancelled, by an error; what has been committed stays. */
extern void om_load_fail(int64 load_id, OmLoadStatus status, const ErrorData *error);

#endif /* OM_LOADS_H */
