-- The rows of one page, in the order of the key. The inner SELECT is an index scan that looks at :page_rows rows at the
-- most; the LIMIT around it stops that scan as soon as the page is full. page_end is the page's last row: its last one
-- to do if the page is full, else the last one that it looked at; no row: nothing is left of the window.
WITH picked AS MATERIALIZED (
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
),
page_end AS MATERIALIZED (
  (
    SELECT {keys}
    FROM picked
    WHERE (SELECT count(*) FROM picked) = :page_limit
    ORDER BY {keys_descending}
    LIMIT 1
  )
  UNION ALL
  (
    SELECT {columns_as_keys}
    FROM {table} AS {row}
    WHERE (SELECT count(*) FROM picked) < :page_limit AND {window}
    ORDER BY {columns}
    LIMIT 1 OFFSET :page_rows - 1
  )
)
