-- What the host has done with a run's jobs. A job belongs to the run whose page wrote it last, whatever the host has
-- done with it since: a job that a later run has reset counts for that later run only. The query reads what runs have
-- enqueued since this one began, and from the host's tables one job and at most one lead per item of this run, by key.
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
  SELECT each.item, run_id, at + seconds * interval '1 second' AS at
  FROM wrote CROSS JOIN LATERAL unnest(enqueued) AS each (item)
  UNION ALL
  SELECT each.item, run_id, each.at
  FROM wrote CROSS JOIN LATERAL unnest(released, released_at) AS each (item, at)
),
own AS MATERIALIZED (
  SELECT item
  FROM (
    SELECT DISTINCT ON (item COLLATE "C") item, run_id FROM written ORDER BY item COLLATE "C", at DESC
  ) AS newest
  WHERE run_id = :run
),
job AS MATERIALIZED (
  SELECT own.item, found.*
  FROM own
  CROSS JOIN LATERAL (
    SELECT
      coalesce(status::text, 'NULL') AS status,
      greatest("runAt", timestamp '1970-01-01') AS run_at,
      "runAt" > now() AT TIME ZONE 'UTC' + interval '100 years' AS never_due,
      "finishedAt"
    FROM {host}."BackgroundJob"
    WHERE "dedupeKey" = :key_prefix || own.item
    LIMIT 1
  ) AS found
)
SELECT
  -- Whether every page of the run has recorded what it enqueued.
  NOT EXISTS (
    SELECT FROM wrote
    WHERE run_id = :run AND enqueued IS NULL AND EXISTS (
      SELECT FROM jsonb_each_text(counts) AS counted (class, items)
      WHERE class IN ('inserted', 'requeued', 'refreshed') AND items::bigint > 0
    )
  ) AS known,
  (SELECT jsonb_object_agg(status, jobs) FROM (SELECT status, count(*) AS jobs FROM job GROUP BY 1) AS by_status) AS jobs,
  count(lead.id) AS scored,
  count(*) FILTER (
    WHERE
      job.status IN ('SUCCEEDED', 'FAILED')
      AND job."finishedAt" > now() AT TIME ZONE 'UTC' - :seconds * interval '1 second'
      AND job."finishedAt" < now() AT TIME ZONE 'UTC' + interval '1 day'
  ) AS ended,
  min(job.run_at) FILTER (
    WHERE job.status = 'PENDING' AND job.run_at <= now() AT TIME ZONE 'UTC'
  ) AT TIME ZONE 'UTC' AS oldest_due_at,
  max(job.run_at) FILTER (WHERE job.status = 'PENDING' AND NOT job.never_due) AT TIME ZONE 'UTC' AS last_due_at,
  count(*) FILTER (WHERE job.status = 'PENDING' AND job.never_due) AS never_due,
  now() AS seen_at
FROM job
-- A job can succeed and leave no score, so scores are counted from the leads.
LEFT JOIN {host}."Lead" AS lead
  ON job.status = 'SUCCEEDED'
  AND lead.id = job.item
  AND lead."overallScore" IS NOT NULL
  AND (NOT :rescore_all OR lead."scoredAt" >= CAST(:started_at AS timestamptz) AT TIME ZONE 'UTC')
