-- How many PENDING jobs of any kind come before a job in the host's queue, counted up to :most. Uses the index on status
-- and runAt.
SELECT count(*)
FROM (
  SELECT FROM {host}."BackgroundJob" WHERE status = 'PENDING' AND "runAt" < CAST(:run_at AS timestamp) LIMIT :most
) AS ahead
