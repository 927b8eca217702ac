-- What every page of a run claims to have done. The host's rows carry a time but no run, so each page comes with the
-- claims of other runs' pages that share one of its times, at the host's precision of milliseconds.
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
