-- The last row that a page may look at; none if the window has fewer.
SELECT {columns_as_keys}
FROM {table} AS {row}
WHERE {window}
ORDER BY {columns}
LIMIT 1 OFFSET :page_rows - 1
