/*
 * cronjobs.h
 *		Our maintenance as jobs of pg_cron.
 */
#ifndef OM_CRONJOBS_H
#define OM_CRONJOBS_H

#include "postgres.h"

#include "names.h"

#define OM_CRON_JOB_COUNT 8
#define OM_CRON_JOB_NAME_SIZE NAMEDATALEN /* of column jobname in pg_cron */
#define OM_CRON_JOB_SCHEDULE_SIZE 128

/* One of our jobs in this database. */
typedef struct OmCronJob
{
	char name[OM_CRON_JOB_NAME_SIZE];
	char schedule[OM_CRON_JOB_SCHEDULE_SIZE]; /* empty: it is not to run */
	int64 id;                                 /* pg_cron's number; 0: it does not run */
} OmCronJob;

/* The words by which schedules are given. */
extern const char *const om_cronjob_words[OM_CRON_JOB_COUNT];

/* Our jobs, as they run when nobody says otherwise. */
extern void om_cronjobs_init(OmCronJob jobs[OM_CRON_JOB_COUNT]);

/*
 * Makes, changes or removes the jobs of the current user, and fills in their
 * numbers.  pg_cron may live in another database of the server: then that is done
 * at once, whatever becomes of the current transaction.  OM006 where there is no
 * pg_cron, or nobody who could go there.
 */
extern void om_cronjobs_schedule(OmCronJob jobs[OM_CRON_JOB_COUNT]);

/* Removes those of the current user; how many there were. */
extern int64 om_cronjobs_unschedule(void);

/* Deletes what pg_cron has noted of runs of our jobs, as the current user, a week ago; 0 without pg_cron. */
extern int64 om_cronjobs_purge_history(void);

#endif /* OM_CRONJOBS_H */
