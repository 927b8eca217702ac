-- Follows selection.sql. A row that the host has changed since it was read is looked at again as it then is, and left
-- alone where it no longer needs the change: the caller sees that one is lacking, rolls back and asks again.
,
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
