-- A stretch of rows that the run has passed, and which of them still need the change.
WITH looked_at AS MATERIALIZED (
  SELECT {columns_as_keys}, {where} AS due, {arrived} AS arrived
  FROM {table} AS {row}
  WHERE {window}
  ORDER BY {columns}
  LIMIT :page_rows
)
SELECT
  (
    SELECT {keys_as_text}
    FROM looked_at
    WHERE (SELECT count(*) FROM looked_at) = :page_rows
    ORDER BY {keys_descending}
    LIMIT 1
  ) AS cursor,
  count(*) AS looked_at,
  coalesce(array_agg({keys_as_text} ORDER BY {keys}) FILTER (WHERE due AND NOT arrived), CAST(ARRAY[] AS text[])) AS missing,
  count(*) FILTER (WHERE due AND arrived) AS arrived
FROM looked_at
