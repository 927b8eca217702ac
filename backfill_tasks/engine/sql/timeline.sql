-- A run's pages over time, in :buckets stretches of equal length: one row for each stretch that has a page. One pass
-- over the run's own pages, and at most :buckets rows sent.
WITH placed AS MATERIALIZED (  -- to sort narrow rows: 17 MB for 500,000 pages instead of 90 MB
  SELECT
    -- The run's own times are truncated to milliseconds, so pages at the edges are counted in the outer stretches.
    greatest(1, least(:buckets, width_bucket(
      extract(epoch FROM at)::double precision, :since_epoch, :until_epoch, :buckets
    ))) AS bucket,
    (counts ->> 'read')::bigint AS items,
    seconds
  FROM backfill.page
  WHERE run_id = :run
)
SELECT
  bucket,
  count(*) AS pages,
  sum(items) AS items,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median,
  max(seconds) AS longest
FROM placed
GROUP BY bucket
ORDER BY bucket
