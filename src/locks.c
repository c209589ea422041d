/*
 * locks.c
 *		Locks by number, in a corner of the advisory lock space that SQL cannot
 *		reach (the fourth field is 1 or 2 for pg_advisory_lock).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "locks.h"

#define LOCK_CLASS 0x6f6d /* "om" */
#define LOCK_SPACE 0x6f6d

static void
set_tag(LOCKTAG *tag, OmLock lock)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, LOCK_CLASS, lock, LOCK_SPACE);
}

static uint32
hash_name(const char *name)
{
	return hash_bytes((const unsigned char *) name, strlen(name));
}

/* Two names may share a lock by chance; then one of them waits for the other now and then. */
OmLock
om_lock_of_consumer(const char *name)
{
	return (OmLock) (OM_LOCK_CONSUMER_FIRST + (hash_name(name) & 0x3fffffff));
}

OmLock
om_lock_of_model(const char *name)
{
	return (OmLock) (OM_LOCK_MODEL_FIRST + (hash_name(name) & 0xffff));
}

static LockAcquireResult
acquire(OmLock lock, bool for_good, bool dont_wait)
{
	LOCKTAG tag;

	set_tag(&tag, lock);
	return LockAcquire(&tag, ExclusiveLock, for_good, dont_wait);
}

void
om_lock_acquire(OmLock lock)
{
	(void) acquire(lock, false /* for_good */, false /* dont_wait */);
}

bool
om_lock_try(OmLock lock)
{
	return acquire(lock, false /* for_good */, true /* dont_wait */) != LOCKACQUIRE_NOT_AVAIL;
}

bool
om_lock_try_for_good(OmLock lock)
{
	return acquire(lock, true /* for_good */, true /* dont_wait */) != LOCKACQUIRE_NOT_AVAIL;
}

void
om_lock_release(OmLock lock)
{
	LOCKTAG tag;

	set_tag(&tag, lock);
	LockRelease(&tag, ExclusiveLock, false /* sessionLock */);
}
