-- What every page of a run says that it did. Rows of the host carry a time and no run, so a page has beside it what the
-- pages of other runs say that have a time in common with it, by the milliseconds that the host keeps.
WITH own AS MATERIALIZED (
  SELECT lane, number, lower, cursor, at || retried AS times, counts
  FROM backfill.page
  WHERE run_id = :run
),
other AS MATERIALIZED (
  SELECT CAST(each.at AS timestamptz(3)) AS at, page.counts
  FROM backfill.run
  JOIN backfill.page ON page.run_id = run.id
  CROSS JOIN LATERAL unnest(page.at || page.retried) AS each (at)
  WHERE run.id <> :run AND run.backfill = (SELECT backfill FROM backfill.run WHERE id = :run)
),
beside AS (
  SELECT own.lane, own.number, jsonb_agg(other.counts) AS counts
  FROM own
  CROSS JOIN LATERAL unnest(own.times) AS each (at)
  JOIN other ON other.at = CAST(each.at AS timestamptz(3))
  GROUP BY own.lane, own.number
)
SELECT own.*, coalesce(beside.counts, '[]') AS beside
FROM own
LEFT JOIN beside USING (lane, number)
ORDER BY lane, number
