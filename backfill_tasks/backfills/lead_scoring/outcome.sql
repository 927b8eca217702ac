-- What has become of the leads that a run has enqueued: each is in exactly one place.
WITH placed AS MATERIALIZED (
  SELECT
    status,
    run_at,
    finished_at,
    CASE
      WHEN taken_over THEN 'taken_over'
      WHEN status = 'RUNNING' THEN 'running'
      WHEN status = 'PENDING' AND never_due THEN 'never_due'
      WHEN status = 'PENDING' AND run_at <= now() AT TIME ZONE 'UTC' THEN 'due'
      WHEN status = 'PENDING' THEN 'later'
      WHEN scored AND status = 'SUCCEEDED' AND scored_here THEN 'here'
      WHEN scored AND status = 'SUCCEEDED' THEN 'host'
      WHEN scored THEN 'otherwise'
      WHEN status = 'FAILED' THEN 'failed'
      WHEN status = 'SUCCEEDED' THEN 'without_score'
      WHEN status IS NOT NULL THEN 'unknown_status'
      WHEN lead_exists THEN 'removed'
      ELSE 'gone'
    END AS place
  FROM (
{lead_scoring/enqueued.sql}
  ) AS found
)
SELECT
  -- Whether every page of the run has recorded what it enqueued.
  NOT EXISTS (
    SELECT FROM backfill.page
    WHERE run_id = :run AND enqueued IS NULL AND EXISTS (
      SELECT FROM jsonb_each_text(counts) AS counted (class, items)
      WHERE class IN ('inserted', 'requeued', 'refreshed') AND items::bigint > 0
    )
  ) AS known,
  (SELECT jsonb_object_agg(place, leads) FROM (SELECT place, count(*) AS leads FROM placed GROUP BY 1) AS by_place) AS places,
  (
    SELECT jsonb_object_agg(status, jobs)
    FROM (SELECT status, count(*) AS jobs FROM placed WHERE status IS NOT NULL GROUP BY 1) AS by_status
  ) AS jobs,
  count(*) FILTER (
    WHERE
      status IN ('SUCCEEDED', 'FAILED')
      AND finished_at > now() AT TIME ZONE 'UTC' - :seconds * interval '1 second'
      AND finished_at < now() AT TIME ZONE 'UTC' + interval '1 day'
  ) AS ended,
  -- How many have ended since the run began, by age in units of :bucket_seconds.
  (
    SELECT jsonb_object_agg(age, jobs)
    FROM (
      SELECT
        floor(extract(epoch FROM now() AT TIME ZONE 'UTC' - finished_at) / :bucket_seconds)::integer AS age,
        count(*) AS jobs
      FROM placed
      WHERE
        status IN ('SUCCEEDED', 'FAILED')
        AND finished_at >= CAST(:started_at AS timestamptz) AT TIME ZONE 'UTC'
        AND finished_at <= now() AT TIME ZONE 'UTC'
      GROUP BY 1
    ) AS by_age
  ) AS ends,
  min(run_at) FILTER (WHERE place = 'due') AT TIME ZONE 'UTC' AS oldest_due_at,
  max(run_at) FILTER (WHERE place IN ('due', 'later')) AT TIME ZONE 'UTC' AS last_due_at,
  now() AS seen_at
FROM placed
