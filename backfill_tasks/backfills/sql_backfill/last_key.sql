-- The greatest key that meets a condition, by the key's index.
SELECT {columns_as_text} FROM {table} AS {row} WHERE {condition} ORDER BY {columns_descending} LIMIT 1
