-- The leads that a run has enqueued, one row each, with the job and the lead as they are now. A job belongs to the run
-- whose page wrote it last, whatever the host has done with it since: one that a later run has reset is `taken_over`, and
-- isn't looked at. The query reads what runs have enqueued since this one began, and from the host's tables one job and
-- at most one lead per lead of this run, by key.
--
-- The host's times may be outside the range that clients can read. A job that is due in over a hundred years, infinity
-- included, is never due; one due before 1970, -infinity included, has been due since 1970.
WITH wrote AS MATERIALIZED (
  SELECT page.*
  FROM backfill.run AS other
  JOIN backfill.page ON page.run_id = other.id
  WHERE
    other.backfill = :backfill
    AND (other.id = :run OR page.at >= :started_at OR page.released <> ARRAY[]::text[])
),
-- The time of the write itself: a page that waits for a row locked by another page writes after it.
written AS (
  SELECT each.item, run_id = :run AS own, at + seconds * interval '1 second' AS at
  FROM wrote CROSS JOIN LATERAL unnest(enqueued) AS each (item)
  UNION ALL
  SELECT each.item, run_id = :run, each.at
  FROM wrote CROSS JOIN LATERAL unnest(released, released_at) AS each (item, at)
),
enqueued AS MATERIALIZED (
  SELECT item, coalesce(max(at) FILTER (WHERE NOT own) > max(at) FILTER (WHERE own), false) AS taken_over
  FROM written
  GROUP BY item
  HAVING bool_or(own)
  ORDER BY item  -- in the order of the indexes, so that neighbours share their pages
)
SELECT
  enqueued.item,
  enqueued.taken_over,
  job.status,
  job.run_at,
  job.never_due,
  job.finished_at,
  lead.exists AS lead_exists,
  -- A job can succeed and leave no score, so the score is the lead's. In a run over scored leads it must be newer than
  -- the run's start.
  lead.overall IS NOT NULL AND (NOT :rescore_all OR lead.scored_at >= :started_at AT TIME ZONE 'UTC') AS scored,
  -- Our own workers write the score, the job's end and its last change in one statement, with one time. The host writes
  -- them one after the other.
  lead.scored_at = job.finished_at AND job.finished_at = job.updated_at AS scored_here
FROM enqueued
-- Looked up lead by lead: a plain join might read a whole table.
LEFT JOIN LATERAL (
  SELECT
    coalesce(job.status::text, 'NULL') AS status,
    greatest(job."runAt", timestamp '1970-01-01') AS run_at,
    job."runAt" > now() AT TIME ZONE 'UTC' + interval '100 years' AS never_due,
    job."finishedAt" AS finished_at,
    job."updatedAt" AS updated_at
  FROM {host}."BackgroundJob" AS job
  WHERE NOT enqueued.taken_over AND job."dedupeKey" = :key_prefix || enqueued.item
  LIMIT 1
) AS job ON true
LEFT JOIN LATERAL (
  SELECT true AS exists, lead."overallScore" AS overall, lead."scoredAt" AS scored_at
  FROM {host}."Lead" AS lead
  WHERE
    NOT enqueued.taken_over
    AND lead.id = enqueued.item
    AND (job.status IS NULL OR job.status NOT IN ('PENDING', 'RUNNING'))
  LIMIT 1
) AS lead ON true
