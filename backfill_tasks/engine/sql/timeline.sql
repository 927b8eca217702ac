-- A run's pages over its time, which is cut into :buckets stretches of equal length: a row for each that has a page.
-- One pass over the run's own pages, however many there are, and no more rows than stretches leave the server.
WITH placed AS MATERIALIZED (  -- so that what is sorted is narrow: 17 MB of 500,000 pages, and not 90
  SELECT
    -- The run's own times are cut to the millisecond: a page at their edge belongs to the run all the same.
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
