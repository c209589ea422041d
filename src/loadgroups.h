/*
 * loadgroups.h
 *		Puts the rows of an order together, wherever in a file they stand.
 */
#ifndef OM_LOADGROUPS_H
#define OM_LOADGROUPS_H

#include "postgres.h"

#include "loadfeed.h"

/* No order has more lines, or bytes.  One that does comes in pieces, each of which says so. */
#define OM_LOAD_MAX_LINES 10000
#define OM_LOAD_MAX_SIZE ((Size) 8 * 1024 * 1024)

/* ---------- which references do not stand together ---------- */

typedef struct OmLoadScatter OmLoadScatter;

/* Lives in the current memory context. */
extern OmLoadScatter *om_load_scatter_create(void);

/* Tells it of each row's reference (NULL: none), in the order of the file. */
extern void om_load_scatter_add(OmLoadScatter *scatter, const char *ref, bool is_readable);

/* After the last. */
extern void om_load_scatter_end(OmLoadScatter *scatter);

/* To be asked after that.  Some that stand together are counted in. */
extern bool om_load_scatter_has(const OmLoadScatter *scatter, const char *ref);

/* True when every row has a reference. */
extern bool om_load_scatter_is_keyed(const OmLoadScatter *scatter);
extern int64 om_load_scatter_nrefs(const OmLoadScatter *scatter);

/* ---------- the rows of an order ---------- */

typedef struct OmLoadGroup
{
	char *ref;       /* or NULL */
	OmLoadRow *rows; /* in the order of the file */
	int nrows;
	int capacity;
	Size size;     /* bytes, about */
	bool is_piece; /* of an order that has too many */
} OmLoadGroup;

/* With a copy of the row as its first, in the current memory context. */
extern OmLoadGroup *om_load_group_create(const char *ref, const OmLoadRow *row, int ncolumns);
extern void om_load_group_add(OmLoadGroup *group, const OmLoadRow *row, int ncolumns);

/* Further rows of the same reference belong to another piece. */
extern bool om_load_group_is_full(const OmLoadGroup *group);

/* ---------- rows to be sorted ---------- */

typedef struct OmLoadSorter OmLoadSorter;

/* Outlives transactions; beyond its memory it uses temporary files. */
extern OmLoadSorter *om_load_sorter_create(int ncolumns);
extern void om_load_sorter_put(OmLoadSorter *sorter, const char *ref, const OmLoadRow *row);

/* All that were put, by reference and then in the order of the file. */
extern void om_load_sorter_sort(OmLoadSorter *sorter);

/* The rows of the next reference, in the current memory context; NULL: there are no more. */
extern OmLoadGroup *om_load_sorter_next(OmLoadSorter *sorter);
extern void om_load_sorter_free(OmLoadSorter *sorter);

#endif /* OM_LOADGROUPS_H */
