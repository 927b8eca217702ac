-- What stands in the host's queue before a job that we would add, counted up to a bound: our jobs that are not done, and
-- the live ones that are due, which go first. By the index of status and runAt: what it reads is what waits and what is
-- at work, of all kinds, and not what has been done.
SELECT count(*)
FROM (
  SELECT
  FROM {host}."BackgroundJob"
  WHERE
    status IN ('PENDING', 'RUNNING')
    AND (
      starts_with("dedupeKey", :key_prefix)
      OR (status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC')
    )
  LIMIT :most
) AS pending
