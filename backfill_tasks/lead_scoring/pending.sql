-- Our jobs that are not done, counted up to a bound. By the index of status and runAt: what it reads is what waits and
-- what is at work, of all kinds, and not what has been done.
SELECT count(*)
FROM (
  SELECT
  FROM {host}."BackgroundJob"
  WHERE status IN ('PENDING', 'RUNNING') AND starts_with("dedupeKey", :key_prefix)
  LIMIT :most
) AS pending
