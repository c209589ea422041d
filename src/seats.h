/*
 * seats.h
 *		The places of background workers in shared memory: who sits where, and how
 *		he is started, woken and ended.
 */
#ifndef OM_SEATS_H
#define OM_SEATS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"

/* What a worker that ended, or the absence of one, means for who looks after the seat. */
typedef enum OmSeatState
{
	OM_SEAT_EMPTY,    /* start a worker when it is due */
	OM_SEAT_STARTING, /* registered, has not reported yet */
	OM_SEAT_TAKEN,    /* worker runs */
	OM_SEAT_AT_REST   /* nothing to do here until somebody knocks; only workers of stages rest */
} OmSeatState;

/* All but procno is guarded by the lock of the shared memory that it lies in. */
typedef struct OmSeat
{
	OmSeatState state;
	uint32 start;    /* number of the start, so that a belated worker finds itself replaced */
	uint32 restart;  /* value of the database's counter at the start */
	pid_t pid;       /* 0: nobody */
	TimestampTz due; /* earliest next start */
	int failures;    /* of workers, in a row, for the back-off */
	pg_atomic_uint32 procno; /* whose latch to set, or OM_NO_PROC */
} OmSeat;

#define OM_NO_PROC PG_UINT32_MAX

/* Once, when the shared memory is made. */
extern void om_seat_init(OmSeat *seat);

/* Sets the latch of the process of that number, if there is one; the next, of who sits there. */
extern void om_seat_wake_procno(pg_atomic_uint32 *procno);
extern void om_seat_wake(OmSeat *seat);

/* ---------- all below: with the lock held exclusively ---------- */

/* Makes it as good as new; who is on his way to it finds himself replaced. */
extern void om_seat_clear(OmSeat *seat);

/* Ends who sits there, or is on his way; true while he has not left. */
extern bool om_seat_end(OmSeat *seat);

/* ---------- for who looks after seats ---------- */

/* Which workers sit there. */
typedef struct OmSeatKind
{
	const char *function; /* their main function */
	const char *type;     /* "order_mgmt loader": what they are called */
	const char *purpose;  /* "loads": what waits where they cannot be started */
	bool slots_exhausted; /* the log has said so */
} OmSeatKind;

/* False once the postmaster has forgotten the worker that had been started by this handle. */
extern bool om_seat_has_slot(BackgroundWorkerHandle *handle);

/*
 * Deals a seat that is empty, and then starts a worker for it; false when there is
 * no slot for one.  The handle is kept for as long as the process lives.
 */
extern void om_seat_deal(OmSeat *seat, uint32 restart);
extern bool om_seat_start(OmSeat *seat, const OmSeatKind *kind, const char *name, Datum arg,
						  BackgroundWorkerHandle **handle);

/*
 * Starts a worker when it is due and none is there; the log hears where there is
 * no slot.  Returns when to look again at the latest; 0: somebody sits there.
 */
extern TimestampTz om_seat_fill(OmSeat *seat, OmSeatKind *kind, const char *name, Datum arg,
								uint32 restart, BackgroundWorkerHandle **handle);

/* A worker that was registered but never arrived must not block its seat; true: so it was. */
extern bool om_seat_check_starting(OmSeat *seat, BackgroundWorkerHandle *handle);

/* Once in the log while there are no slots. */
extern void om_seat_report_slots(OmSeatKind *kind, bool exhausted);

/* ---------- for the worker ---------- */

/*
 * Sits down, unless another has been started since, or nobody is welcome now.
 * It must be this worker's seat that its argument names.
 */
extern bool om_seat_take(OmSeat *seat, bool is_welcome);

/* What comes after a worker that failed: the next one, a little later each time. */
#define OM_SEAT_BACK_OFF (-1)

/* Stands up; the next may come so many milliseconds later.  False: another sits there. */
extern bool om_seat_leave(OmSeat *seat, int pause_ms);

#endif /* OM_SEATS_H */
