-- The types of a key's columns, in the key's order.
SELECT array_agg(quote_ident(nspname) || '.' || quote_ident(typname) ORDER BY position)
FROM unnest(CAST(:key_columns AS text[])) WITH ORDINALITY AS key_column (name, position)
JOIN pg_attribute ON attrelid = CAST(:key_table AS regclass) AND attname = name
JOIN pg_type ON pg_type.oid = atttypid
JOIN pg_namespace ON pg_namespace.oid = typnamespace
