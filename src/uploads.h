/*
 * uploads.h
 *		Files that clients send piece by piece, by a ticket.
 *
 * A ticket has the id of the load that it becomes: its bytes are load_parts of
 * that load, whether it is there already or not.  Who adds to a ticket or has
 * it loaded holds the lock on its row to the end of the transaction.
 */
#ifndef OM_UPLOADS_H
#define OM_UPLOADS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "bytes.h"
#include "names.h"

typedef struct OmUpload
{
	pg_uuid_t upload_id;
	int64 load_id;
	OmLoadKind kind;
	OmLoadMode mode; /* of orders */
	Jsonb *options;
	char *created_by;
	TimestampTz expires_at;
	bool is_loaded; /* its load has been asked for */
} OmUpload;

/* A new ticket; the caller fills in kind, mode and options, the rest is set. */
extern void om_upload_create(OmUpload *upload, int64 milliseconds);

/*
 * The ticket, locked.  OM004: there is none; 42501: it is another's; OM005: it
 * has expired and has not been loaded.
 */
extern OmUpload *om_upload_lock(const pg_uuid_t *upload_id);

/*
 * Adds what is not there yet of a chunk, and returns how many bytes there are
 * then.  OM005: it does not follow what is there, or the upload is loaded;
 * OM001: what is there is not the same.
 */
extern int64 om_upload_append(const OmUpload *upload, int64 at_byte, const char *chunk,
							  Size length);

/* Asks for its load; false: somebody has before. */
extern bool om_upload_load(const OmUpload *upload);

/* What has been sent, to look at. */
extern OmBytes *om_upload_open(const OmUpload *upload);

/* Deletes what has expired and what was kept of loads that ended a day ago; the ids of uploads. */
extern List *om_upload_purge(void);

#endif /* OM_UPLOADS_H */
