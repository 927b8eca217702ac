-- Whether a table can be walked by a key: which of its columns are missing or may be NULL, whether other tables inherit
-- from it, whether an index has the key's order (a btree whose first columns are the key's, each with the column's own
-- collation and default operators, all ascending or all descending), and whether one makes the key unique.
WITH wanted AS MATERIALIZED (
  SELECT name, CAST(position AS int) AS position, attnum, attnotnull, attcollation
  FROM unnest(CAST(:columns AS text[])) WITH ORDINALITY AS wanted (name, position)
  LEFT JOIN pg_attribute
    ON attrelid = CAST(:table AS regclass) AND attname = name AND attnum > 0 AND NOT attisdropped
),
usable AS MATERIALIZED (
  SELECT pg_index.*, amname
  FROM pg_index
  JOIN pg_class ON pg_class.oid = indexrelid
  JOIN pg_am ON pg_am.oid = relam
  WHERE indrelid = CAST(:table AS regclass) AND indisvalid AND indisready AND indislive AND indpred IS NULL
)
SELECT
  (SELECT coalesce(array_agg(name ORDER BY position), '{{}}') FROM wanted WHERE attnum IS NULL) AS unknown,
  (SELECT coalesce(array_agg(name ORDER BY position), '{{}}') FROM wanted WHERE NOT attnotnull) AS nullable,
  EXISTS (
    SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
    WHERE inhparent = CAST(:table AS regclass) AND relkind = 'r'
  ) AS inherited,
  EXISTS (
    SELECT FROM usable
    WHERE
      amname = 'btree'
      AND indnkeyatts >= (SELECT count(*) FROM wanted)
      AND indoption[0] IN (0, 3)
      AND NOT EXISTS (
        SELECT FROM wanted
        WHERE
          indkey[position - 1] <> attnum
          OR indcollation[position - 1] <> attcollation
          OR indoption[position - 1] <> indoption[0]
          OR NOT (SELECT opcdefault FROM pg_opclass WHERE pg_opclass.oid = indclass[position - 1])
      )
  ) AS ordered,
  EXISTS (
    SELECT FROM usable
    WHERE
      indisunique
      AND indimmediate
      AND NOT EXISTS (
        SELECT FROM generate_series(0, indnkeyatts - 1) AS number
        WHERE indkey[number] NOT IN (SELECT attnum FROM wanted)
      )
  ) AS is_unique
