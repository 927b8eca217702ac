-- The keys of a page whose rows are locked, as the relation `page`. What is done with them follows.
page AS MATERIALIZED (
  SELECT {typed_keys}
  FROM unnest({key_arrays}) WITH ORDINALITY AS locked ({keys}, position)
  ORDER BY position
)
