-- How the host drains its queue: what its last call (:since) took and left, and what waits for the next one (:until).
--
-- No index has startedAt or finishedAt. But the host works on the oldest due jobs first, so the jobs that it has started
-- last are those with the newest runAt, and the index on status and runAt serves them: it is read backwards for the
-- jobs that have ended, and forwards for those that wait, :rows of each at the most. Jobs that this hides are older than
-- the others and have been overtaken by :rows jobs.
--
-- A job that failed and is tried again is PENDING, and counts as one that waits, once it is due.
--
-- Jobs that our own scorers have started (`here`) aren't the host's. One that is RUNNING has their lock; one that has
-- ended has the time of a claim of theirs. They may be newer than all that the host has started, so more rows are read
-- while there are such claims.
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now),
-- The call may have come slightly before the moment at which it was expected.
call AS MATERIALIZED (
  SELECT CAST(:since AS timestamp) - CAST(:margin_seconds AS double precision) * interval '1 second' AS around
),
depth AS MATERIALIZED (
  SELECT CASE WHEN EXISTS (
    SELECT FROM backfill.claim
    WHERE started_at >= (SELECT now FROM clock) - :recent_seconds * interval '1 second'
  ) THEN 4 * :rows ELSE :rows END AS rows
),
begun AS MATERIALIZED (
  SELECT
    "runAt" AS due_at,
    "startedAt" AS started_at,
    starts_with("dedupeKey", :key_prefix) AS ours,
    coalesce(starts_with("lockedBy", :holder_prefix), false) AS held_here
  FROM (
    (
      SELECT "runAt", "startedAt", "dedupeKey", "lockedBy"
      FROM {host}."BackgroundJob"
      WHERE status = 'SUCCEEDED' AND "runAt" <= (SELECT now FROM clock)
      ORDER BY "runAt" DESC
      LIMIT (SELECT rows FROM depth)
    )
    UNION ALL
    (
      SELECT "runAt", "startedAt", "dedupeKey", "lockedBy"
      FROM {host}."BackgroundJob"
      WHERE status = 'FAILED' AND "runAt" <= (SELECT now FROM clock)
      ORDER BY "runAt" DESC
      LIMIT :rows / 10
    )
    UNION ALL
    (
      SELECT "runAt", "startedAt", "dedupeKey", "lockedBy"
      FROM {host}."BackgroundJob"
      WHERE status = 'RUNNING' AND "runAt" <= (SELECT now FROM clock)
      ORDER BY "runAt" DESC
      LIMIT :rows
    )
  ) AS job
  -- A job that another runner started before it was due says nothing about the host's drain.
  WHERE
    "startedAt" BETWEEN (SELECT now FROM clock) - :recent_seconds * interval '1 second' AND (SELECT now FROM clock)
    AND "startedAt" >= "runAt"
),
known AS MATERIALIZED (
  SELECT
    due_at,
    started_at,
    ours,
    held_here OR (ours AND EXISTS (SELECT FROM backfill.claim WHERE claim.started_at = begun.started_at)) AS here
  FROM begun
),
started AS MATERIALIZED (SELECT due_at, started_at, ours FROM known WHERE NOT here),
waiting AS MATERIALIZED (
  SELECT "runAt" AS due_at, starts_with("dedupeKey", :key_prefix) AS ours
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= CAST(:until AS timestamp)
  ORDER BY "runAt"
  LIMIT :rows
),
-- `backfill drain` calls the host's runner as well. The starts up to its last call don't show the rhythm of the host's
-- own calls.
hurried AS MATERIALIZED (
  SELECT
    (
      SELECT every_seconds FROM backfill.drain
      -- Workers look after it every few seconds.
      WHERE state IN ('calling', 'waiting') AND looked_at > clock_timestamp() - interval '30 seconds'
    ) AS every_seconds,
    (SELECT max(started_at) AT TIME ZONE 'UTC' FROM backfill.drain_call) AS until
),
-- Every n-th start, so that the sample is small and covers many calls.
numbered AS (
  SELECT
    started.*,
    row_number() OVER (ORDER BY started_at) AS number,
    1 + count(*) OVER () / :waits AS step
  FROM started
  WHERE started_at > coalesce((SELECT until FROM hurried), '-infinity')
),
sample AS (
  SELECT
    array_agg(extract(epoch FROM due_at)::float8 ORDER BY number) AS due,
    array_agg(extract(epoch FROM started_at)::float8 ORDER BY number) AS started
  FROM numbered
  WHERE number % step = 0
)
SELECT
  (SELECT extract(epoch FROM now)::float8 FROM clock) AS at,
  (SELECT count(*) FROM waiting WHERE NOT ours) AS live,
  (SELECT count(*) FROM waiting WHERE ours) AS ours,
  (SELECT count(*) FROM waiting WHERE due_at <= (SELECT around FROM call)) AS left,
  (SELECT count(*) FROM started WHERE started_at >= (SELECT around FROM call)) AS taken,
  (SELECT count(*) FROM started WHERE started_at >= (SELECT around FROM call) AND ours) AS taken_ours,
  (SELECT count(*) FROM known WHERE started_at >= (SELECT around FROM call) AND here) AS here,
  (SELECT every_seconds FROM hurried) AS every_seconds,
  sample.due, sample.started
FROM sample
