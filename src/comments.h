/*
 * comments.h
 *		COMMENT ON COLUMN for the data tables.
 */
#ifndef OM_COMMENTS_H
#define OM_COMMENTS_H

/* Comments the columns of a relation that has just been made, as its owner. */
extern void om_comments_add(const char *relation);

#endif /* OM_COMMENTS_H */
