/*
 * deadletters.h
 *		What people do with events that a consumer has given up.
 */
#ifndef OM_DEADLETTERS_H
#define OM_DEADLETTERS_H

#include "postgres.h"

#include "utils/array.h"

/*
 * Hands dead letters to their consumers again: all of a consumer (NULL: of
 * every one), or those of them with these ids (NULL: all).  Returns how many
 * were taken up.  Those whose order still has its other check under way are
 * left for later.
 */
extern int64 om_dead_letters_replay(const char *consumer, ArrayType *ids);

/* One of them; false when its order has ended otherwise.  OM004, OM005. */
extern bool om_dead_letter_replay(int64 id);

/* Throws some away; their orders, if any, get a note.  Returns how many there were. */
extern int64 om_dead_letters_discard(ArrayType *ids, const char *reason);

#endif /* OM_DEADLETTERS_H */
