-- What stands in the host's queue before a job that we would add, counted up to a bound: our jobs that are at work, our
-- jobs that come due before it or within one drain of it, and the live ones that are due, which go first. Jobs of ours
-- that are parked further in the future take nothing from the host by then, and don't count. By the index of status and
-- runAt: what it reads is what waits until then and what is at work, of all kinds, and not what has been done.
SELECT count(*)
FROM (
  SELECT 1
  FROM {host}."BackgroundJob"
  WHERE status = 'RUNNING' AND starts_with("dedupeKey", :key_prefix)
  UNION ALL
  SELECT 1
  FROM {host}."BackgroundJob"
  WHERE
    status = 'PENDING'
    AND "runAt" <= greatest(now() AT TIME ZONE 'UTC', CAST(:due_at AS timestamp)) + :drain_seconds * interval '1 second'
    AND (starts_with("dedupeKey", :key_prefix) OR "runAt" <= now() AT TIME ZONE 'UTC')
  LIMIT :most
) AS pending
