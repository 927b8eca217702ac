-- Pages of one backfill that have to know what the others have done take turns: held until the transaction ends. Who
-- waits here holds up nobody of the host's, so the wait may be longer than one for a row of the host's.
SELECT
  set_config('lock_timeout', :patience, true),
  pg_advisory_xact_lock(hashtextextended('backfill:' || :backfill, 0)),
  set_config('lock_timeout', :lock_timeout, true)
