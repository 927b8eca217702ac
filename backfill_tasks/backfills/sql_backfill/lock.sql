-- Lock the rows of one page until it commits, and return their keys with the types of their columns. A row that the host
-- has changed is looked at again as it then is, and left out where it no longer needs the change: the caller sees that
-- one is lacking, rolls back and asks again.
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
