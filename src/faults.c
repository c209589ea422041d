/*
 * faults.c
 *		What happens at a fault point; empty in a normal build.
 *
 * A test writes file order_mgmt.faults into the data directory: one record of
 * 64 bytes for each point.  Every process maps it at its first point, so what
 * is counted there outlives a crash restart, and a fault that has been fired
 * is not fired again by whoever comes after, unless it is to kill so many
 * times.  A server without the file has no faults.
 *
 * Locking: none, the counters are atomic.  The test writes "action" and
 * "kind" before it arms the point with "countdown", the number of hits until
 * the fault, or for FAULT_KILL_EACH the number of kills.
 */
#include "postgres.h"

#include "faults.h"

#ifdef OM_FAULT_POINTS

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"

#define FAULTS_FILE "order_mgmt.faults"
#define STOP_CHECK_US 5000

/* The numbers are known to test/t/Faults.pm. */
typedef enum FaultAction
{
	FAULT_NONE,
	FAULT_ERROR,    /* an ERROR */
	FAULT_KILL,     /* SIGKILL */
	FAULT_EXIT,     /* the process ends by itself */
	FAULT_STOP,     /* waits until the action is no longer this one */
	FAULT_KILL_EACH /* SIGKILL, to each who comes there until "countdown" is 0 */
} FaultAction;

typedef enum ProcessKind
{
	KIND_CLIENT,
	KIND_WORKER /* or launcher */
} ProcessKind;

typedef struct FaultPoint
{
	char name[32];
	pg_atomic_uint32 action;
	pg_atomic_uint32 kind;         /* of process that it is meant for */
	pg_atomic_uint32 countdown;    /* fires when it becomes 0; 0: not armed */
	pg_atomic_uint32 fired;        /* how often */
	pg_atomic_uint32 pid;          /* of the process that fired it */
	pg_atomic_uint32 can_be_ended; /* it answers a termination while it is stopped */
	pg_atomic_uint32 hits[2];      /* by kind of process */
} FaultPoint;

static FaultPoint *points = NULL;
static int npoints = 0;

static void
map_points(void)
{
	static bool tried = false;
	int fd = tried ? -1 : open(FAULTS_FILE, O_RDWR);
	struct stat file;

	tried = true;
	if (fd < 0)
		return;
	if (fstat(fd, &file) == 0 && file.st_size > 0)
	{
		void *map = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (map != MAP_FAILED)
		{
			points = map;
			npoints = file.st_size / sizeof(FaultPoint);
		}
	}
	close(fd);
}

static FaultPoint *
find_point(const char *name)
{
	for (int i = 0; i < npoints; i++)
	{
		if (strncmp(points[i].name, name, sizeof(points[i].name)) == 0)
			return &points[i];
	}
	return NULL;
}

static void
wait_until_released(FaultPoint *point)
{
	while (pg_atomic_read_u32(&point->action) == FAULT_STOP)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(STOP_CHECK_US);
	}
}

static void
fire(FaultPoint *point, FaultAction action)
{
	pg_atomic_write_u32(&point->pid, MyProcPid);
	pg_atomic_write_u32(&point->can_be_ended, InterruptHoldoffCount == 0 && CritSectionCount == 0);
	pg_atomic_fetch_add_u32(&point->fired, 1);
	switch (action)
	{
		case FAULT_NONE:
			break;
		case FAULT_ERROR:
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("fault point \"%s\" has been reached", point->name)));
			break;
		case FAULT_KILL:
		case FAULT_KILL_EACH:
			kill(MyProcPid, SIGKILL);
			break;
		case FAULT_EXIT:
			proc_exit(1);
			break;
		case FAULT_STOP:
			wait_until_released(point);
			break;
	}
}

/* Of several processes that come here at the same time each gets another number. */
static bool
is_due(FaultPoint *point, ProcessKind kind)
{
	uint32 countdown = pg_atomic_read_u32(&point->countdown);

	if (pg_atomic_read_u32(&point->kind) != kind)
		return false;
	while (countdown > 0)
	{
		if (pg_atomic_compare_exchange_u32(&point->countdown, &countdown, countdown - 1))
			return countdown == 1 || pg_atomic_read_u32(&point->action) == FAULT_KILL_EACH;
	}
	return false;
}

void
om_fault_reach(const char *name)
{
	ProcessKind kind = MyBackendType == B_BG_WORKER ? KIND_WORKER : KIND_CLIENT;
	FaultPoint *point;

	if (points == NULL)
		map_points();
	point = find_point(name);
	if (point == NULL)
		return;
	pg_atomic_fetch_add_u32(&point->hits[kind], 1);
	if (is_due(point, kind))
		fire(point, (FaultAction) pg_atomic_read_u32(&point->action));
}

#endif /* OM_FAULT_POINTS */
