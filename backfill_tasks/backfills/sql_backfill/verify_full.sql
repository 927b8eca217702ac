-- Like verify.sql, for many stretches at once, reading the table from end to end: a damaged index hides no row.
WITH looked_at AS MATERIALIZED (
  SELECT {columns_as_keys}, {where} AS due, {arrived} AS arrived
  FROM {table} AS {row}
  WHERE {stretches}
)
SELECT
  count(*) AS looked_at,
  coalesce(array_agg({keys_as_text} ORDER BY {keys}) FILTER (WHERE due AND NOT arrived), CAST(ARRAY[] AS text[])) AS missing,
  count(*) FILTER (WHERE due AND arrived) AS arrived
FROM looked_at
