/*
 * loadparts.h
 *		Bytes that belong to a load and are kept in the database until it is done:
 *		what was uploaded, rows that were staged, refused rows that are tried again.
 *
 * They lie in table "load_parts" in parts, one behind the other without gaps.
 * Whoever adds some sees to it that nobody else does.
 */
#ifndef OM_LOADPARTS_H
#define OM_LOADPARTS_H

#include "postgres.h"

#include "bytes.h"

/* No part is larger. */
#define OM_PART_SIZE ((Size) 1024 * 1024)

/* How many bytes there are. */
extern int64 om_parts_size(int64 load_id);

/* Adds bytes behind those that there are, of which there are so many. */
extern void om_parts_append(int64 load_id, int64 size, const char *content, Size length);

/* Whether these bytes are there from an offset on. */
extern bool om_parts_have(int64 load_id, int64 offset, const char *content, Size length);

extern void om_parts_forget(int64 load_id);

/* The stream of them, which nobody may change meanwhile.  The name is kept as it is. */
extern OmBytes *om_parts_open(int64 load_id, const char *name);

#endif /* OM_LOADPARTS_H */
