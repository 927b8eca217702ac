-- The last key of those that meet a condition, by the index of the key.
SELECT {columns_as_text} FROM {table} AS {row} WHERE {condition} ORDER BY {columns_descending} LIMIT 1
