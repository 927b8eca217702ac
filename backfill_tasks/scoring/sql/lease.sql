-- Pass the jobs of a batch on to a submission, as far as the batch still holds them, and return those. "lockedAt" is dated
-- ahead: the host's runner and our watchdog release a job some time after its "lockedAt", so nobody does before. The
-- leases end one after another, after those of all other submissions, so that not all jobs come back at once. Uses the
-- primary key: the status is compared as text, or else the planner may read all running jobs instead, which are many
-- while a provider works on them.
WITH first AS MATERIALIZED (
  SELECT greatest(
    now() + :seconds * interval '1 second',
    (
      SELECT max(held_until) + :spacing * interval '1 second'
      FROM backfill.batch
      WHERE state IN ('submitting', 'submitted', 'ended')
    )
  ) AS ends_at
),
held AS MATERIALIZED (
  SELECT job.id
  FROM {host}."BackgroundJob" AS job
  WHERE job.id = ANY (CAST(:jobs AS text[])) AND job.status::text = 'RUNNING' AND job."lockedBy" = :holder
  ORDER BY job.id
  FOR NO KEY UPDATE
),
numbered AS MATERIALIZED (
  SELECT id, first.ends_at + (row_number() OVER (ORDER BY id) - 1) * :spacing * interval '1 second' AS ends_at
  FROM held
  CROSS JOIN first
),
noted AS (
  UPDATE backfill.batch SET held_until = (SELECT max(ends_at) FROM numbered) WHERE id = :submission
)
UPDATE {host}."BackgroundJob" AS job
SET
  "lockedBy" = :new_holder,
  "lockedAt" = numbered.ends_at AT TIME ZONE 'UTC',
  "updatedAt" = now() AT TIME ZONE 'UTC'
FROM numbered
WHERE job.id = numbered.id
RETURNING job.id
