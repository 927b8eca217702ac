-- How many jobs are ahead, in the host's queue, of a job that we would add, counted up to a bound: our running jobs,
-- our jobs that come due before the new one or within one drain of it, and due live jobs, which go first. Our jobs due
-- later than that cost the host nothing by then, and don't count. Uses the index on status and runAt: it reads the
-- waiting jobs up to that time and the running jobs, of all kinds, but no finished ones.
--
-- `left(…) = …` instead of starts_with(…): the planner would read all of our jobs by their keys, finished ones included.
SELECT count(*)
FROM (
  SELECT 1
  FROM {host}."BackgroundJob"
  WHERE
    status = 'RUNNING'
    AND left("dedupeKey", length(:key_prefix)) = :key_prefix
    -- Those that our own scorers hold don't take up the host's runner.
    AND NOT coalesce(starts_with("lockedBy", :holder_prefix), false)
  UNION ALL
  SELECT 1
  FROM {host}."BackgroundJob"
  WHERE
    status = 'PENDING'
    AND "runAt" <= greatest(now() AT TIME ZONE 'UTC', CAST(:due_at AS timestamp)) + :drain_seconds * interval '1 second'
    AND (left("dedupeKey", length(:key_prefix)) = :key_prefix OR "runAt" <= now() AT TIME ZONE 'UTC')
  LIMIT :most
) AS pending
