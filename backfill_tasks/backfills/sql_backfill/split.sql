-- The upper bounds of all lanes but the last: the quantiles of a sample of the table's blocks, or of the whole table if
-- it is small. Only rows that need the change count, unless the sample has too few of them.
WITH sampled AS MATERIALIZED (
  SELECT {columns_as_keys}, {where} AS due
  FROM {table} AS {row} TABLESAMPLE SYSTEM (CAST(:percent AS real))
  WHERE {after}
),
counted AS MATERIALIZED (
  SELECT {keys} FROM sampled WHERE due OR (SELECT count(*) FILTER (WHERE due) FROM sampled) < :enough
),
lane AS (
  SELECT
    {keys},
    ntile((SELECT greatest(1, least(:lanes, 100 / CAST(:percent AS real) * count(*) / :smallest))::int FROM counted))
      OVER (ORDER BY {keys}) AS number
  FROM counted
)
SELECT DISTINCT ON (number) {keys_as_text} AS bound
FROM lane
WHERE number < (SELECT max(number) FROM lane)
ORDER BY number, {keys_descending}
