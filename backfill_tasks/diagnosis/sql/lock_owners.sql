-- The session that has locked the row of each of these lanes, and the session that it waits for. Read-only: the row's
-- xmax is the transaction that last locked or changed it, and a live transaction holds a lock on its own id. pg_locks
-- shows this to every role; pg_stat_activity hides other roles' sessions without pg_read_all_stats.
WITH lane AS MATERIALIZED (
  SELECT run_id, number, xmax::text AS locker
  FROM backfill.lane
  WHERE (run_id, number) IN (SELECT * FROM unnest(CAST(:runs AS text[]), CAST(:lanes AS int[])))
),
lock_owner AS MATERIALIZED (
  SELECT lane.run_id, lane.number, lock.pid, (pg_blocking_pids(lock.pid))[1] AS blocking
  FROM lane
  JOIN pg_locks AS lock
    ON lock.locktype = 'transactionid' AND lock.granted AND lock.mode = 'ExclusiveLock'
    AND lock.transactionid::text = lane.locker
)
SELECT
  lock_owner.run_id, lock_owner.number,
  lock_owner.pid, session.application_name AS application, session.state,
  extract(epoch FROM clock_timestamp() - coalesce(session.state_change, session.xact_start))::float8 AS seconds,
  coalesce(session.application_name = current_setting('application_name'), false) AS is_page,
  lock_owner.blocking, blocker.application_name AS blocking_application, blocker.state AS blocking_state,
  extract(epoch FROM clock_timestamp() - blocker.state_change)::float8 AS blocking_seconds
FROM lock_owner
LEFT JOIN pg_stat_activity AS session ON session.pid = lock_owner.pid
LEFT JOIN pg_stat_activity AS blocker ON blocker.pid = lock_owner.blocking
