-- Has the maintenance of this database run by pg_cron: one job each for maintenance, archive,
-- idempotency_keys, loads, dead_letters, statistics and job_history, and models if a time is named, as the calling role. schedules
-- overrides when: {"maintenance": "*/5 * * * *", "statistics": null}; null: not at all. Again: changes
-- them. Where pg_cron lives in another database that is done at once, whatever becomes of the transaction.
-- Errors: OM001, OM005 where the role may not log in, OM006 where there is no pg_cron, 42501.
CREATE FUNCTION order_mgmt.schedule_jobs(
    schedules jsonb DEFAULT '{}'
)
RETURNS TABLE (
    job_id bigint,
    job_name text
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_schedule_jobs';
COMMENT ON FUNCTION order_mgmt.schedule_jobs(jsonb) IS
    'Has pg_cron run the maintenance of this database as the calling role; schedules overrides when, by job (null: not at all). Errors: OM001, OM005, OM006 (no pg_cron), 42501.';
REVOKE ALL ON FUNCTION order_mgmt.schedule_jobs(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.schedule_jobs(jsonb) TO order_mgmt_operator;

-- Takes the calling role's jobs of this database out of pg_cron; returns how many there were.
-- Errors: OM005 where the role may not log in, OM006 where there is no pg_cron, 42501.
CREATE FUNCTION order_mgmt.unschedule_jobs()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_unschedule_jobs';
COMMENT ON FUNCTION order_mgmt.unschedule_jobs() IS
    'Removes the calling role''s jobs of this database from pg_cron; returns how many there were. Errors: OM005, OM006 (no pg_cron), 42501.';
REVOKE ALL ON FUNCTION order_mgmt.unschedule_jobs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.unschedule_jobs() TO order_mgmt_operator;

-- Moves the months that are due by their policies, to warm storage, into the archive or out of it for
-- good, and commits after each: as many as max_months (NULL: all), and none begins when budget is over.
-- moved: how many. What fails is in maintenance_log, and stops no other; where maintenance is under way
-- elsewhere it is left to that. The one procedure, since it commits.
-- Errors: OM001, OM006, 2D000 in a transaction.
CREATE PROCEDURE order_mgmt.archive_due(
    max_months bigint DEFAULT NULL,
    budget interval DEFAULT '10 minutes',
    INOUT moved bigint DEFAULT NULL
)
LANGUAGE C
AS 'MODULE_PATHNAME', 'om_archive_due';
COMMENT ON PROCEDURE order_mgmt.archive_due(bigint, interval, bigint) IS
    'Moves the months that are due, each in a transaction of its own; moved: how many. Errors: OM001, OM006, 2D000 (in a transaction).';
REVOKE ALL ON PROCEDURE order_mgmt.archive_due(bigint, interval, bigint) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE order_mgmt.archive_due(bigint, interval, bigint) TO order_mgmt_operator;

-- Empties the oldest table of idempotency keys if its turn has come (order_mgmt.idempotency_retention);
-- returns the number of tables emptied. Waits for nobody. Errors: OM006.
CREATE FUNCTION order_mgmt.purge_idempotency_keys()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_purge_idempotency_keys';
COMMENT ON FUNCTION order_mgmt.purge_idempotency_keys() IS
    'Empties the oldest table of idempotency keys if its turn has come; returns the number of tables emptied. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.purge_idempotency_keys() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.purge_idempotency_keys() TO order_mgmt_operator;

-- Deletes uploads that have expired and, older than order_mgmt.load_retention, loads that have ended
-- with their errors, and rows that were staged and never loaded; returns how many of these. Waits for nobody. Errors: OM006.
CREATE FUNCTION order_mgmt.purge_loads()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_purge_loads_of_age';
COMMENT ON FUNCTION order_mgmt.purge_loads() IS
    'Deletes expired uploads and, past order_mgmt.load_retention, loads that have ended and staged rows; returns how many of these. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.purge_loads() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.purge_loads() TO order_mgmt_operator;

-- Discards the dead letters whose last failure is older than order_mgmt.dead_letter_retention, as
-- discard_dead_letters() does; returns how many. Waits for nobody. Errors: OM006.
CREATE FUNCTION order_mgmt.purge_dead_letters()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_purge_dead_letters_of_age';
COMMENT ON FUNCTION order_mgmt.purge_dead_letters() IS
    'Discards dead letters past order_mgmt.dead_letter_retention; returns how many. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.purge_dead_letters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.purge_dead_letters() TO order_mgmt_operator;

-- Refreshes the planner's statistics of the tables partitioned by month as a whole, which autovacuum
-- leaves alone; returns how many. Leaves out what somebody has locked. Errors: OM006.
CREATE FUNCTION order_mgmt.refresh_statistics()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_refresh_statistics';
COMMENT ON FUNCTION order_mgmt.refresh_statistics() IS
    'Runs ANALYZE on the tables partitioned by month, which autovacuum does not; returns how many. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.refresh_statistics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.refresh_statistics() TO order_mgmt_operator;

-- Deletes what pg_cron has noted of the calling role's jobs of this database more than 7 days ago;
-- returns how many rows, 0 where pg_cron is not loaded. Errors: OM005, OM006, 42501.
CREATE FUNCTION order_mgmt.purge_job_history()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_purge_job_history';
COMMENT ON FUNCTION order_mgmt.purge_job_history() IS
    'Deletes what pg_cron has noted of runs of our jobs more than 7 days ago; returns how many. Errors: OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.purge_job_history() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.purge_job_history() TO order_mgmt_operator;
