-- The upper bounds of lanes with about equal numbers of leads. The leads are counted, so no assumption is made about
-- the format of ids: lanes are cut at the quantiles of the database's own order. The last bound is the table's last id.
-- The part "leads" is the statement that selects the leads to count, such as lead_scoring/split.sql.
WITH lead AS MATERIALIZED (
{leads}
),
lane AS (
  SELECT
    id,
    ntile((SELECT least(:lanes, greatest(1, count(*) / :smallest))::int FROM lead)) OVER (ORDER BY id) AS number
  FROM lead
),
bound AS (
  SELECT number, max(id) AS id FROM lane GROUP BY number
)
SELECT id
FROM (
  SELECT number, id FROM bound WHERE number < (SELECT max(number) FROM bound)
  UNION ALL
  SELECT coalesce((SELECT max(number) FROM bound), 1), id
  FROM (SELECT max(id) AS id FROM {host}."Lead" WHERE (CAST(:after AS text) IS NULL OR id > :after)) AS last
  WHERE id IS NOT NULL
) AS cut
ORDER BY number
