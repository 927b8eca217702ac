-- What a page would do, counted and not done.
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
)
SELECT
  (SELECT {keys_as_text} FROM page_end) AS cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT count(*) FROM {table} AS {row} WHERE {window} AND {up_to_page_end}) AS passed
