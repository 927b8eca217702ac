-- The settings of every transaction that does, counts or verifies a page, local to the transaction.
SELECT
  -- A page reads row by row through an index, whatever the statistics say: those of a table that is being filled are
  -- outdated, and those of a new table are missing.
  set_config('enable_seqscan', 'off', true),
  set_config('enable_bitmapscan', 'off', true),
  set_config('enable_hashjoin', 'off', true),
  set_config('enable_mergejoin', 'off', true),
  set_config('jit', 'off', true),
  -- A row-level security policy would hide rows, and the page would skip them. With this setting PostgreSQL refuses
  -- every later statement of the transaction to which a policy applies (42501).
  set_config('row_security', 'off', true)
