/*
 * bytes.h
 *		A stream of bytes from wherever they lie, unpacked on the way.
 */
#ifndef OM_BYTES_H
#define OM_BYTES_H

#include "postgres.h"

typedef struct OmBytes OmBytes;

/* Where bytes come from. */
typedef struct OmByteSource
{
	/*
	 * At most size bytes from offset on; 0 only at the end.  Offsets go up by what was returned,
	 * except for jumps forward by om_bytes_skip_to().
	 */
	size_t (*read)(void *arg, int64 offset, char *buffer, size_t size);
	int64 (*size)(void *arg); /* of all of it; NULL where nobody knows */
	void (*close)(void *arg); /* may be NULL; also called when the memory context goes */
	void *arg;
	const char *name; /* as users write it: /tmp/a.csv, lo:4711; must live as long as the stream */
} OmByteSource;

/*
 * A stream lives in the current memory context, and is closed with it at the
 * latest: also by an error, and not by the end of a transaction.  Gzip and zstd
 * are recognised by their first bytes.  What cannot be read is OM007.
 */
extern OmBytes *om_bytes_open_file(const char *path);
extern OmBytes *om_bytes_open_text(const char *text, size_t size); /* not copied */
extern OmBytes *om_bytes_open_large_object(Oid id);
extern OmBytes *om_bytes_open_source(const OmByteSource *source);
extern void om_bytes_close(OmBytes *bytes);

/* The next bytes, unpacked; 0: there are no more. */
extern size_t om_bytes_read(OmBytes *bytes, char *buffer, size_t size);

/* Goes on at this unpacked byte; false where the stream ends before.  Cheap unless packed. */
extern bool om_bytes_skip_to(OmBytes *bytes, int64 position);

/* As they are stored, for progress; a size of -1 is unknown. */
extern int64 om_bytes_raw_position(const OmBytes *bytes);
extern int64 om_bytes_raw_size(const OmBytes *bytes);

extern const char *om_bytes_name(const OmBytes *bytes);

#endif /* OM_BYTES_H */
