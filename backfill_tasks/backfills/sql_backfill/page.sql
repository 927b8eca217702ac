-- One page: select, change, count. A row that the host has changed since it was read is looked at again as it then is,
-- and left alone where it no longer needs the change: the caller sees that one is lacking, rolls back and asks again.
WITH picked AS MATERIALIZED (
{sql_backfill/picked.sql}
),
page_end AS MATERIALIZED (
{sql_backfill/page_end.sql}
),
updated AS (
  UPDATE {table} AS {row}
  SET {set}
  FROM picked
  WHERE {row_is_picked} AND {where}
  RETURNING 1
)
SELECT
  (SELECT {keys_as_text} FROM page_end) AS cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT count(*) FROM updated) AS updated
