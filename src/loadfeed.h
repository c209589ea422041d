/*
 * loadfeed.h
 *		The rows of what is to be loaded, by our columns.
 */
#ifndef OM_LOADFEED_H
#define OM_LOADFEED_H

#include "postgres.h"

#include "loadoptions.h"
#include "loads.h"

/* A row, or what is wrong with it as a whole. */
typedef struct OmLoadRow
{
	int64 row_no; /* from 1, header not counted */
	int64 line_no;
	char *cells[OM_LOAD_MAX_COLUMNS]; /* NULL: nothing there, and no default */
	int sqlstate;                     /* 0: nothing is wrong */
	const char *error;
	const char *raw;
	Size raw_size;
	bool raw_is_exact; /* as it stands in the file, but for its encoding */
} OmLoadRow;

typedef struct OmLoadFeed OmLoadFeed;

/* Lives in the current memory context.  The header goes to load->header. */
extern OmLoadFeed *om_load_feed_open(OmLoad *load, const OmLoadOptions *options);

/* The next row, valid until the next call; false: there are no more. */
extern bool om_load_feed_next(OmLoadFeed *feed, OmLoadRow *row);

/* Bytes of the source that have been read, and how many there are (-1: not known). */
extern int64 om_load_feed_position(const OmLoadFeed *feed);
extern int64 om_load_feed_size(const OmLoadFeed *feed);

/* SHA-256 of what has been read, unpacked; to be called once, at the end. */
extern void om_load_feed_digest(OmLoadFeed *feed, uint8 digest[OM_SHA256_SIZE]);

extern void om_load_feed_close(OmLoadFeed *feed);

#endif /* OM_LOADFEED_H */
