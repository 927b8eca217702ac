-- Our waiting jobs, counted up to :most each: those that are due, those that a run has reserved for our own scorers, and
-- in how many seconds the first of these comes due for the host's runner. Two index scans on status and runAt; they also
-- pass the waiting jobs of other kinds, which are few, because the host drains them.
--
-- A job that isn't due yet is reserved if any run has reserved jobs: otherwise runs spread their jobs.
WITH due AS (
  SELECT
    FROM {host}."BackgroundJob"
  WHERE
    status = 'PENDING'
    AND "runAt" <= now() AT TIME ZONE 'UTC'
    AND type = 'LEAD_SCORING_POST_PROCESS'
    AND left("dedupeKey", length(:key_prefix)) = :key_prefix
  LIMIT :most
),
reserved AS MATERIALIZED (
  SELECT "runAt" AS due_at
  FROM {host}."BackgroundJob"
  WHERE
    status = 'PENDING'
    AND "runAt" > now() AT TIME ZONE 'UTC'
    AND "runAt" < now() AT TIME ZONE 'UTC' + interval '100 years'
    AND type = 'LEAD_SCORING_POST_PROCESS'
    AND left("dedupeKey", length(:key_prefix)) = :key_prefix
    AND EXISTS (SELECT FROM backfill.run WHERE parameters ->> 'score_here' = 'true')
  ORDER BY "runAt"
  LIMIT :most
)
SELECT
  (SELECT count(*) FROM due) AS due,
  (SELECT count(*) FROM reserved) AS reserved,
  (SELECT extract(epoch FROM min(due_at) - now() AT TIME ZONE 'UTC')::float8 FROM reserved) AS first_due_seconds
