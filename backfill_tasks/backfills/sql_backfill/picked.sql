-- The rows of one page that need the change, in key order. The inner SELECT is an index scan that looks at most at
-- :page_rows rows; the LIMIT around it stops that scan as soon as the page is full.
SELECT {columns_as_keys}
FROM (
  SELECT *
  FROM {table} AS {row}
  WHERE {window}
  ORDER BY {columns}
  LIMIT :page_rows
) AS {row}
WHERE {where}
ORDER BY {columns}
LIMIT :page_limit
