-- The postponements of a run's pages by kind: how many pages, for how long, from when to when, and the last reason.
SELECT kind.*, latest.reason
FROM (
  SELECT kind, count(*) AS pages, sum(seconds) AS seconds, min(since) AS since, max(until) AS until
  FROM (
    -- A page that waited again in a later chain counts once.
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
