/*
 * memberfile.h
 *		The archive file of a partition.
 */
#ifndef OM_MEMBERFILE_H
#define OM_MEMBERFILE_H

#include "postgres.h"

#include "monthmembers.h"

/*
 * Writes the file of a partition that is locked in SHARE, and its row of
 * "archives"; an earlier file of the month goes at the commit.
 */
extern void om_member_write(OmMonthMember *member, DateADT month);

#endif /* OM_MEMBERFILE_H */
