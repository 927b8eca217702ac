-- Lock the rows of one page until it commits, and return their keys with the types of their columns. If the host has
-- changed a row, PostgreSQL checks its new version and omits it if it no longer needs the change. There are then fewer
-- keys than `read`, and the caller rolls back and retries.
WITH picked AS MATERIALIZED (
{sql_backfill/picked.sql}
),
page_end AS MATERIALIZED (
{sql_backfill/page_end.sql}
),
locked AS MATERIALIZED (
  SELECT {columns_as_keys}
  FROM picked
  JOIN {table} AS {row} ON {row_is_picked}
  WHERE {where}
  ORDER BY {columns}
  FOR NO KEY UPDATE OF {row}
)
SELECT
  (SELECT {keys_as_text} FROM page_end) AS cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT coalesce(array_agg({keys_as_text} ORDER BY {keys}), CAST(ARRAY[] AS text[])) FROM locked) AS keys,
  (
{sql_backfill/key_types.sql}
  ) AS types
