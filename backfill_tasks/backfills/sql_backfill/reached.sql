-- For each of these keys, whether a key isn't after it. The subqueries have no row; they give each comparison the type
-- and the collation of the key's column.
SELECT ({item}) <= ({typed_keys})
FROM unnest({key_arrays}) WITH ORDINALITY AS each ({keys}, place)
ORDER BY place
