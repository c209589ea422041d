/*
 * inflight.h
 *		What a worker is handling at this moment, kept where a crash of the server
 *		does not wipe it out.
 *
 * A worker attaches once per consumer.  Every call takes NULL, which is what
 * om_inflight_attach() gives where the file cannot be had: then crashes are
 * not counted, and everything else goes on.
 */
#ifndef OM_INFLIGHT_H
#define OM_INFLIGHT_H

#include "postgres.h"

typedef struct OmInflight OmInflight;

/* What is known of the crashes of those who were this consumer before. */
typedef struct OmSuspicion
{
	int nevents;    /* so many events are suspect: take them one by one; 0: none */
	int64 begin;    /* the first of them; 0: not known */
	int64 event_id; /* the event that was in flight alone when it crashed; 0: none */
	int crashes;    /* how often in a row */
} OmSuspicion;

/* This process's slot for a consumer of its database.  May raise a WARNING, never an error. */
extern OmInflight *om_inflight_attach(const char *consumer);

/* Call once, after attaching; and again for what is left of the suspicion. */
extern OmSuspicion om_inflight_review(OmInflight *slot);

/* Around the transaction that handles a batch; event_id: its first event. */
extern void om_inflight_begin(OmInflight *slot, int nevents, int64 event_id);

/* The batch has been committed. */
extern void om_inflight_end(OmInflight *slot);

/* It has been rolled back: nothing is in flight, and what was suspect still is. */
extern void om_inflight_abort(OmInflight *slot);

/* The event that crashed has been put aside; it counts no more. */
extern void om_inflight_forget(OmInflight *slot);

/* For pqsignal(SIGQUIT, ...): somebody else has crashed, and what we handle is innocent. */
extern void om_inflight_sigquit(int signo);

#endif /* OM_INFLIGHT_H */
