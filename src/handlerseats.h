/*
 * handlerseats.h
 *		The places of the workers that run subscriptions, in shared memory.
 */
#ifndef OM_HANDLERSEATS_H
#define OM_HANDLERSEATS_H

#include "postgres.h"

#include "shared.h"

/* All of these do nothing, and find nothing, where the library is not preloaded. */

/*
 * For who looks after the workers, with shared->lock held: the seat of a
 * consumer of this database (made on demand; NULL when there is none left), and
 * the end of a seat on which nobody sits.
 */
extern OmHandlerSeat *om_handlerseat_find_locked(const char *consumer, bool create);
extern void om_handlerseat_free_locked(OmHandlerSeat *seat);

/* Ends the workers of a database; returns how many have not left yet.  Lock as above. */
extern int om_handlerseat_end_all_locked(Oid database);

/* The same for this database, without the lock held. */
extern void om_handlerseat_end_all(void);

/* Ends the worker of one consumer of this database; it is started again if it still should run. */
extern void om_handlerseat_end(const char *consumer);

/* There are new ticks: wakes the workers that read them. */
extern void om_handlerseat_wake(Oid database);

/* Subscriptions or their workers have changed: whoever looks after them is to look. */
extern void om_handlerseat_changed(Oid database);

/* True when some subscription of this database has a worker, so that ticks have a reader. */
extern bool om_handlerseat_any(void);

/* PID of the worker of a consumer of this database, or 0. */
extern pid_t om_handlerseat_pid(const char *consumer);

/*
 * For the worker itself: sits down (NULL: another has been started since, or
 * nobody is to run now) until the process ends.
 */
extern OmHandlerSeat *om_handlerseat_take(int index);

/* The worker works: earlier failures no longer count. */
extern void om_handlerseat_works(void);

/* The signal handler that ends the worker has been called by this process. */
extern void om_handlerseat_note_sender(pid_t sender);

/* Ends this process from a signal handler, its event being to blame. */
extern void om_handlerseat_end_self(void);

/* Around each event, so that one whose handler ends the process is known next time. */
extern void om_handlerseat_begin_event(int64 event_id);
extern void om_handlerseat_end_event(void);

/* How many processes in a row the handler of this event has ended. */
extern int om_handlerseat_deaths(int64 event_id);

/* The event under suspicion, or 0. */
extern int64 om_handlerseat_suspect(void);

#endif /* OM_HANDLERSEATS_H */
