-- When the leads that a run has enqueued got their score: how many in each of :buckets stretches of equal length.
SELECT
  width_bucket(
    extract(epoch FROM finished_at)::double precision,
    CAST(:since_epoch AS double precision), CAST(:until_epoch AS double precision), :buckets
  ) AS bucket,
  count(*) AS leads
FROM (
{lead_scoring/enqueued.sql}
) AS found
WHERE
  scored
  AND status = 'SUCCEEDED'
  -- The host's times may be outside the range that a number can express.
  AND finished_at >= CAST(:started_at AS timestamptz) AT TIME ZONE 'UTC' AND finished_at < :until
GROUP BY 1
ORDER BY 1
