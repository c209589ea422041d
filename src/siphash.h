/*
 * siphash.h
 *		A keyed hash: without the key nobody can tell what has a hash, or find two
 *		texts that have the same.
 */
#ifndef OM_SIPHASH_H
#define OM_SIPHASH_H

#include "postgres.h"

extern uint64 om_siphash(const uint8 key[16], const uint8 *data, size_t length);

#endif /* OM_SIPHASH_H */
