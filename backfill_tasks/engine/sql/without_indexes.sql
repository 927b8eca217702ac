-- For the rest of the transaction, read tables and not indexes: what an index has lost is seen all the same. And join by
-- hash: where old statistics expect a single row, a nested loop would compare each of many with each.
SELECT
  set_config('enable_indexscan', 'off', true),
  set_config('enable_indexonlyscan', 'off', true),
  set_config('enable_bitmapscan', 'off', true),
  set_config('enable_nestloop', 'off', true),
  set_config('enable_seqscan', 'on', true),
  set_config('enable_hashjoin', 'on', true),
  set_config('enable_mergejoin', 'on', true)
