-- What the pages of a run were put off for: of each kind how many pages, for how long, from when to when, and what was
-- said last.
SELECT kind.*, latest.reason
FROM (
  SELECT kind, count(*) AS pages, sum(seconds) AS seconds, min(since) AS since, max(until) AS until
  FROM (
    -- A page that waited again in a later chain is still one page.
    SELECT kind, lane, page, sum(seconds) AS seconds, min(since) AS since, max(until) AS until
    FROM backfill.hold
    WHERE run_id = :run
    GROUP BY kind, lane, page
  ) AS page
  GROUP BY kind
) AS kind
CROSS JOIN LATERAL (
  SELECT reason FROM backfill.hold WHERE run_id = :run AND kind = kind.kind ORDER BY until DESC LIMIT 1
) AS latest
ORDER BY kind.since, kind.kind
