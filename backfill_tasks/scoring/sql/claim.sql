-- Claim up to :most of the backfill's own jobs for one batch, as the host's runner claims its: an UPDATE from PENDING to
-- RUNNING, which only one claimant can do. A job is claimable if it is due, or if it isn't due yet and doesn't wait for a
-- retry: a reserved job (`run --score-here`) comes due for the host's runner only. A job that the host's runner put off
-- waits until it is due.
--
-- Both pools are index scans on status and runAt that stop after :pool of our jobs, so finished jobs are never read. They
-- also pass the PENDING jobs of other kinds that come before; those are few, because the host drains them.
--
-- The time of a claim on due jobs goes to the ledger: the bound on the host's queue tells by it who has done them.
WITH pool AS MATERIALIZED (
  (
    SELECT id, "clientId" AS client_id, "runAt" AS run_at, false AS reserved
    FROM {host}."BackgroundJob"
    WHERE
      status = 'PENDING'
      AND "runAt" <= now() AT TIME ZONE 'UTC'
      AND type = 'LEAD_SCORING_POST_PROCESS'
      AND left("dedupeKey", length(:key_prefix)) = :key_prefix
      AND attempts < "maxAttempts"
    ORDER BY "runAt"
    LIMIT :pool
  )
  UNION ALL
  (
    SELECT id, "clientId", "runAt", true
    FROM {host}."BackgroundJob"
    WHERE
      status = 'PENDING'
      AND "runAt" > now() AT TIME ZONE 'UTC'
      AND type = 'LEAD_SCORING_POST_PROCESS'
      AND left("dedupeKey", length(:key_prefix)) = :key_prefix
      AND attempts < "maxAttempts"
      AND (
        attempts = 0
        OR (
          starts_with("lastError", :our_error)
          AND "updatedAt" <= now() AT TIME ZONE 'UTC' - least(:longest_wait, power(2, attempts) + 1) * interval '1 second'
        )
      )
    ORDER BY "runAt"
    LIMIT :pool
  )
),
-- Fair between workspaces: the oldest of each first, then the second oldest of each. Due jobs go before reserved ones,
-- because they stand in the host's queue.
turns AS (
  SELECT id, run_at, reserved, row_number() OVER (PARTITION BY reserved, client_id ORDER BY run_at, id) AS turn
  FROM pool
),
-- Another claimant's rows are skipped, and the next ones taken in their place. The conditions are repeated because they
-- are checked again on the locked row: a job that was claimed or reset since the snapshot is left out.
-- The status is compared as text, or else the planner may read all PENDING jobs instead of the pool's by their ids.
chosen AS MATERIALIZED (
  SELECT job.id, turns.reserved
  FROM turns
  JOIN {host}."BackgroundJob" AS job ON job.id = turns.id
  WHERE job.status::text = 'PENDING' AND job.attempts < job."maxAttempts"
  ORDER BY turns.reserved, turns.turn, turns.run_at, turns.id
  LIMIT :most
  FOR NO KEY UPDATE OF job SKIP LOCKED
),
noted AS (
  INSERT INTO backfill.claim (started_at)
  SELECT now() AT TIME ZONE 'UTC'
  WHERE EXISTS (SELECT FROM chosen WHERE NOT reserved)
)
UPDATE {host}."BackgroundJob" AS job
SET
  status = 'RUNNING',
  "lockedAt" = now() AT TIME ZONE 'UTC',
  "lockedBy" = :holder,
  "startedAt" = now() AT TIME ZONE 'UTC',
  attempts = job.attempts + 1,
  "updatedAt" = now() AT TIME ZONE 'UTC'
FROM chosen
WHERE job.id = chosen.id
RETURNING job.id, job."leadId" AS lead, job."clientId" AS client
