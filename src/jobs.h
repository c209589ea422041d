/*
 * jobs.h
 *		Our maintenance as jobs of pg_cron.
 */
#ifndef OM_JOBS_H
#define OM_JOBS_H

#include "postgres.h"

#include "names.h"

#define OM_JOB_COUNT 6
#define OM_JOB_NAME_SIZE NAMEDATALEN /* of column jobname in pg_cron */
#define OM_JOB_SCHEDULE_SIZE 128

/* One of our jobs in this database. */
typedef struct OmJob
{
	char name[OM_JOB_NAME_SIZE];
	char schedule[OM_JOB_SCHEDULE_SIZE]; /* empty: it is not to run */
	int64 id;                            /* pg_cron's number; 0: it does not run */
} OmJob;

/* The words by which schedules are given. */
extern const char *const om_job_words[OM_JOB_COUNT];

/* Our jobs, as they run when nobody says otherwise. */
extern void om_jobs_init(OmJob jobs[OM_JOB_COUNT]);

/*
 * Makes, changes or removes the jobs of the current user, and fills in their
 * numbers.  pg_cron may live in another database of the server: then that is done
 * at once, whatever becomes of the current transaction.  OM006 where there is no
 * pg_cron, or nobody who could go there.
 */
extern void om_jobs_schedule(OmJob jobs[OM_JOB_COUNT]);

/* Removes those of the current user; how many there were. */
extern int64 om_jobs_unschedule(void);

/* Deletes what pg_cron has noted of runs of our jobs, as the current user, a week ago; 0 without pg_cron. */
extern int64 om_jobs_purge_history(void);

#endif /* OM_JOBS_H */
