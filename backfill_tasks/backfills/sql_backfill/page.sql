-- One page: select, change, count. If the host has changed a row since it was read, PostgreSQL checks its new version and
-- leaves it alone if it no longer needs the change. `updated` is then less than `read`, and the caller rolls back and
-- retries.
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
