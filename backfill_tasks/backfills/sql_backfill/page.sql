-- One page: select, change, count. A row that the host has changed since it was read is looked at again as it then is,
-- and left alone where it no longer needs the change: the caller sees that one is lacking, rolls back and asks again.
WITH picked AS MATERIALIZED (
{sql_backfill/picked.sql}
),
-- The last row that the page passes: its last one to change if it is full, else the last one that it looked at; none if
-- nothing is left of the window.
page_end AS MATERIALIZED (
  (SELECT {keys} FROM picked WHERE (SELECT count(*) FROM picked) = :page_limit ORDER BY {keys_descending} LIMIT 1)
  UNION ALL
  SELECT last_row.*
  FROM (
{sql_backfill/last_row.sql}
  ) AS last_row
  WHERE (SELECT count(*) FROM picked) < :page_limit
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
