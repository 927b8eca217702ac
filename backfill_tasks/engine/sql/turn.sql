-- Pages of one backfill that depend on each other's results take turns: the lock is released when the transaction ends.
-- A page that waits here blocks nothing of the host, so it may wait longer than for a row of the host.
SELECT
  set_config('lock_timeout', :patience, true),
  pg_advisory_xact_lock(hashtextextended('backfill:' || :backfill, 0)),
  set_config('lock_timeout', :lock_timeout, true)
