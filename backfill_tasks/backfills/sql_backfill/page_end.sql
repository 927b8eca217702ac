-- The last row that a page passes: its last one to change if the page is full, else the last one that it looked at. No
-- row if nothing is left of the window. Reads the relation `picked` (picked.sql) of the statement that includes it.
(SELECT {keys} FROM picked WHERE (SELECT count(*) FROM picked) = :page_limit ORDER BY {keys_descending} LIMIT 1)
UNION ALL
SELECT last_row.*
FROM (
  SELECT {columns_as_keys}
  FROM {table} AS {row}
  WHERE {window}
  ORDER BY {columns}
  LIMIT 1 OFFSET :page_rows - 1
) AS last_row
WHERE (SELECT count(*) FROM picked) < :page_limit
