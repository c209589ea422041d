/*
 * inflight.c
 *		Finds the event that crashes the server.
 *
 * What a batch does to the database is undone by a crash, so a crash cannot be
 * counted there.  Each consumer therefore has a slot in a small file that all
 * workers map.  Writing to it is a store to memory: no WAL, no flush; the
 * kernel keeps it when the process is killed and when the server restarts.  It
 * is lost with the machine, and the event is then met again there.
 *
 *		in flight	-> whoever attaches next counts a crash
 *		innocent	-> the postmaster told us to quit because of somebody else
 *		idle		-> everything else: batch ended, ERROR, SIGTERM, end of process
 *
 * A crash makes the batch suspect.  The next worker takes its events one by
 * one, so the second crash names the event, and those in a row after it count.
 *
 * The file lies in pg_dynshmem: that directory is for maps like this one, and
 * pg_basebackup and pg_rewind leave its contents alone, so that no copy of the
 * server begins with a crash of the original.
 *
 * Locking: om_shared->lock guards the making of the file and the dealing of
 * slots.  A slot in use is written by its owner only; the lock
 * of the consumer sees to it that there is one.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "inflight.h"
#include "shared.h"

#define FILE_NAME "pg_dynshmem/order_mgmt.inflight"
#define FILE_MAGIC UINT64CONST(0x6f6d5f696e666c31) /* changes with the layout */
#define SLOT_COUNT 512

typedef enum SlotState
{
	SLOT_IDLE,
	SLOT_IN_FLIGHT,
	SLOT_INNOCENT
} SlotState;

struct OmInflight
{
	Oid database; /* InvalidOid: free */
	pid_t owner;
	uint64 consumer; /* hash of its name */
	pg_atomic_uint32 state;
	int32 nevents; /* of the batch in flight */
	int64 event_id;
	int32 nsuspects;
	int32 crashes; /* of crashed_event, in a row */
	int64 crashed_event;
	TimestampTz attached_at;
	int64 suspects_begin; /* event_id of the batch that made them suspect */
};

StaticAssertDecl(sizeof(OmInflight) == 64, "slots are as large as a cache line");

typedef struct InflightFile
{
	uint64 magic;
	char unused[56];
	OmInflight slots[SLOT_COUNT];
} InflightFile;

static InflightFile *file = NULL;

/* What this process handles at this moment. */
static OmInflight *volatile current = NULL;

static bool
write_new_file(const char *name)
{
	static const InflightFile empty = {.magic = FILE_MAGIC};
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, pg_file_create_mode);
	bool ok = fd >= 0 && write(fd, &empty, sizeof(empty)) == sizeof(empty);

	if (fd >= 0)
		close(fd);
	return ok;
}

static InflightFile *
map_file(void)
{
	int fd = open(FILE_NAME, O_RDWR);
	struct stat status;
	InflightFile *map = NULL;

	if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size == sizeof(InflightFile))
	{
		map = mmap(NULL, sizeof(InflightFile), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			map = NULL;
		else if (map->magic != FILE_MAGIC)
		{
			munmap(map, sizeof(InflightFile));
			map = NULL;
			errno = 0;
		}
	}
	if (fd >= 0)
		close(fd);
	return map;
}

/*
 * What is no file of ours gives way to a new one.  That is written in full
 * before it gets its name: nobody ever maps a file that is too short, or has
 * holes for which the disk may have no room.
 */
static InflightFile *
open_file(void)
{
	InflightFile *map = map_file();

	if (map == NULL && write_new_file(FILE_NAME ".new") && rename(FILE_NAME ".new", FILE_NAME) == 0)
		map = map_file();
	return map;
}

static bool
is_free(const OmInflight *slot)
{
	return !OidIsValid(slot->database);
}

/* Rather taken from its consumer than the other: tells less, or was attached longer ago. */
static bool
is_worth_less(OmInflight *slot, OmInflight *other)
{
	bool tells = pg_atomic_read_u32(&slot->state) == SLOT_IN_FLIGHT;
	bool other_tells = pg_atomic_read_u32(&other->state) == SLOT_IN_FLIGHT;

	return tells != other_tells ? other_tells : slot->attached_at < other->attached_at;
}

/* This consumer's slot; else a free one; else that of a consumer not seen for the longest time. */
static OmInflight *
find_slot(uint64 consumer)
{
	OmInflight *best = NULL;

	for (int i = 0; i < SLOT_COUNT; i++)
	{
		OmInflight *slot = &file->slots[i];

		if (slot->database == MyDatabaseId && slot->consumer == consumer)
			return slot;
		if (best != NULL && is_free(best))
			continue;
		if (is_free(slot))
			best = slot;
		else if (BackendPidGetProc(slot->owner) == NULL &&
				 (best == NULL || is_worth_less(slot, best)))
			best = slot;
	}
	if (best != NULL)
		memset(best, 0, sizeof(OmInflight));
	return best;
}

/* A machine that crashed may have left anything in the slot. */
static void
mend(OmInflight *slot)
{
	if (pg_atomic_read_u32(&slot->state) > SLOT_INNOCENT || slot->nevents < 0 ||
		slot->nsuspects < 0 || slot->crashes < 0)
	{
		pg_atomic_write_u32(&slot->state, SLOT_IDLE);
		slot->nevents = slot->nsuspects = slot->crashes = 0;
		slot->event_id = slot->crashed_event = slot->suspects_begin = 0;
	}
}

/* Our slots end with us, unless we end without coming here. */
static void
leave_slots(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	om_inflight_abort(current);
}

static OmInflight *
take_slot(uint64 consumer, int *error)
{
	OmInflight *slot;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (file == NULL)
		file = open_file();
	*error = errno;
	slot = file == NULL ? NULL : find_slot(consumer);
	if (slot != NULL)
	{
		mend(slot);
		slot->consumer = consumer;
		slot->owner = MyProcPid;
		slot->attached_at = GetCurrentTimestamp();
		slot->database = MyDatabaseId;
	}
	LWLockRelease(om_shared->lock);
	return slot;
}

static void
warn(int error)
{
	errno = error;
	if (file == NULL)
		ereport(WARNING,
				(errcode_for_file_access(), errmsg("could not use file \"%s\": %m", FILE_NAME),
				 errhint("An event that crashes the server is not put aside until this is mended "
						 "and the workers have been started again.")));
	else
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("more than %d consumers are at work", SLOT_COUNT),
				 errhint("An event that crashes the server is not put aside for the others.")));
}

OmInflight *
om_inflight_attach(const char *consumer)
{
	static bool registered = false;
	OmInflight *slot;
	int error;

	if (om_shared == NULL)
		return NULL;
	slot = take_slot(hash_bytes_extended((const unsigned char *) consumer, strlen(consumer), 0),
					 &error);
	if (slot == NULL)
	{
		warn(error);
		return NULL;
	}
	if (!registered)
		before_shmem_exit(leave_slots, (Datum) 0);
	registered = true;
	return slot;
}

/* The batch of our predecessor crashed. */
static void
count_crash(OmInflight *slot)
{
	slot->nsuspects = Max(slot->nsuspects, slot->nevents);
	slot->suspects_begin = slot->event_id;
	if (slot->nevents != 1 || slot->event_id == 0)
		return;
	slot->crashes = slot->event_id == slot->crashed_event ? slot->crashes + 1 : 1;
	slot->crashed_event = slot->event_id;
}

OmSuspicion
om_inflight_review(OmInflight *slot)
{
	if (slot == NULL)
		return (OmSuspicion){0, 0, 0, 0};
	if (slot != current)
	{
		if (pg_atomic_read_u32(&slot->state) == SLOT_IN_FLIGHT)
			count_crash(slot);
		pg_atomic_write_u32(&slot->state, SLOT_IDLE);
	}
	return (OmSuspicion){slot->nsuspects, slot->suspects_begin, slot->crashed_event, slot->crashes};
}

void
om_inflight_begin(OmInflight *slot, int nevents, int64 event_id)
{
	if (slot == NULL)
		return;
	slot->nevents = nevents;
	slot->event_id = event_id;
	current = slot;
	/* A full barrier on either side: the slot never says "in flight" about an older batch. */
	(void) pg_atomic_exchange_u32(&slot->state, SLOT_IN_FLIGHT);
}

void
om_inflight_abort(OmInflight *slot)
{
	if (slot == NULL)
		return;
	(void) pg_atomic_exchange_u32(&slot->state, SLOT_IDLE);
	current = NULL;
}

void
om_inflight_end(OmInflight *slot)
{
	if (slot == NULL)
		return;
	om_inflight_abort(slot);
	slot->nsuspects = Max(slot->nsuspects - slot->nevents, 0);
	if (slot->nevents == 1 && slot->event_id == slot->crashed_event)
		slot->crashed_event = slot->crashes = 0;
}

void
om_inflight_forget(OmInflight *slot)
{
	if (slot == NULL)
		return;
	slot->nsuspects = Max(slot->nsuspects - 1, 0);
	slot->crashed_event = slot->crashes = 0;
}

/* As SignalHandlerForCrashExit() does: no callback may touch shared memory now. */
void
om_inflight_sigquit(int signo pg_attribute_unused())
{
	OmInflight *slot = current;

	if (slot != NULL)
		pg_atomic_write_u32(&slot->state, SLOT_INNOCENT);
	_exit(2);
}
