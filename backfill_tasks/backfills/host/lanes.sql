-- The upper bounds of lanes of about equally many leads. Counted, not guessed from the look of the ids: whatever they
-- are made of, they are cut where the database's own order has its quantiles. The last bound is the table's last id.
-- The part "leads" is for the statement of the leads that count, such as lead_scoring/split.sql.
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
