/*
 * loadpast.h
 *		What earlier loads have done with the same bytes.
 */
#ifndef OM_LOADPAST_H
#define OM_LOADPAST_H

#include "postgres.h"

#include "loads.h"

/*
 * The newest load that has loaded the same bytes as the same; 0: none.  Where
 * rows have keys, other options make another load of it.
 */
extern int64 om_loadpast_find_same(const OmLoad *load, bool keyed);

/*
 * How far the newest load of the same bytes as the same got that did not come to
 * its end; load_id 0: there is none.
 */
typedef struct OmLoadPart
{
	int64 load_id;
	bool same_options;
	int64 done_records;
	int64 done_sorted;
	int64 rows; /* loaded, refused or passed over */
	int64 orders;
} OmLoadPart;

extern OmLoadPart om_loadpast_find_part(const OmLoad *load);

#endif /* OM_LOADPAST_H */
