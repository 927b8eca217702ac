-- Lock the rows of one page until it commits, and return their keys with the types of their columns. A row that the host
-- has changed is looked at again as it then is, and left out where it no longer needs the change: the caller sees that
-- one is lacking, rolls back and asks again.
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
held AS MATERIALIZED (
  SELECT {columns_as_keys}
  FROM picked
  JOIN {table} AS {row} ON {row_is_picked}
  WHERE {where}
  ORDER BY {columns}
  FOR NO KEY UPDATE OF {row}
)
SELECT
  (SELECT {keys_as_text} FROM page_end) AS cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT coalesce(array_agg({keys_as_text} ORDER BY {keys}), CAST(ARRAY[] AS text[])) FROM held) AS keys,
  (
    SELECT array_agg(quote_ident(nspname) || '.' || quote_ident(typname) ORDER BY position)
    FROM unnest(CAST(:key_columns AS text[])) WITH ORDINALITY AS key_column (name, position)
    JOIN pg_attribute ON attrelid = CAST(:key_table AS regclass) AND attname = name
    JOIN pg_type ON pg_type.oid = atttypid
    JOIN pg_namespace ON pg_namespace.oid = typnamespace
  ) AS types
