-- The drain, its pace over the last :rate_seconds, and the share of failed attempts among the last :jobs jobs. A call
-- without an end counts as in flight for :in_flight_seconds: the host may still be at work on it. Reads the calls that
-- are kept, a thousand at most.
WITH lately AS (
  SELECT sum(processed) AS processed, min(started_at) AS since
  FROM backfill.drain_call
  WHERE result IS NOT NULL AND ended_at > now() - :rate_seconds * interval '1 second'
),
worked AS (
  SELECT
    processed,
    spoiled,
    sum(processed) OVER (ORDER BY call.id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer
  FROM backfill.drain_call AS call
  JOIN backfill.drain ON call.ended_at >= drain.judged_since
  WHERE result = 'worked' AND processed > 0
),
judged AS (
  SELECT coalesce(sum(processed), 0) AS processed, coalesce(sum(spoiled), 0) AS spoiled
  FROM worked
  WHERE coalesce(newer, 0) < :jobs
)
SELECT
  drain.*,
  now() AS seen_at,
  extract(epoch FROM next_call_at - now())::float8 AS until_next,
  (
    SELECT count(*) FROM backfill.drain_call
    WHERE ended_at IS NULL AND started_at > now() - :in_flight_seconds * interval '1 second'
  ) AS in_flight,
  judged.processed AS judged_jobs,
  judged.spoiled AS judged_spoiled,
  lately.processed AS lately_processed,
  extract(epoch FROM now() - lately.since)::float8 AS lately_seconds,
  last.result AS last_result,
  last.shown AS last_shown,
  last.ended_at AS last_at
FROM backfill.drain
CROSS JOIN lately
CROSS JOIN judged
LEFT JOIN LATERAL (
  SELECT result, shown, ended_at FROM backfill.drain_call WHERE result IS NOT NULL ORDER BY ended_at DESC LIMIT 1
) AS last ON true
