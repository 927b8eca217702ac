-- When any page of a run waited, by kind. Holds that overlap, or are at most :gap seconds apart, are merged into one
-- stretch, so the result is short however many holds there are.
WITH marked AS (
  SELECT
    kind, since, until,
    since > :gap * interval '1 second' + max(until) OVER (
      PARTITION BY kind ORDER BY since, until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS is_apart
  FROM backfill.hold
  WHERE run_id = :run
),
numbered AS (
  SELECT
    kind, since, until,
    count(*) FILTER (WHERE is_apart) OVER (PARTITION BY kind ORDER BY since, until ROWS UNBOUNDED PRECEDING) AS stretch
  FROM marked
)
SELECT kind, min(since) AS since, max(until) AS until
FROM numbered
GROUP BY kind, stretch
ORDER BY kind, stretch
