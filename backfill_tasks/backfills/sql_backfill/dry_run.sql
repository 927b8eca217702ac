-- What a page would do, counted and not done. Follows selection.sql.
SELECT
  (SELECT {keys_as_text} FROM page_end) AS cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT count(*) FROM {table} AS {row} WHERE {window} AND {up_to_page_end}) AS passed
