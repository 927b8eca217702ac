-- What a page would do, counted and not done.
WITH picked AS MATERIALIZED (
{sql_backfill/picked.sql}
),
page_end AS MATERIALIZED (
{sql_backfill/page_end.sql}
)
SELECT
  (SELECT {keys_as_text} FROM page_end) AS cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT count(*) FROM {table} AS {row} WHERE {window} AND {up_to_page_end}) AS passed
