-- For the rest of the transaction, read tables instead of indexes, so that rows missing from an index are seen, too.
-- Join by hash: with outdated statistics that expect a single row, a nested loop would compare every row of many with
-- every other.
SELECT
  set_config('enable_indexscan', 'off', true),
  set_config('enable_indexonlyscan', 'off', true),
  set_config('enable_bitmapscan', 'off', true),
  set_config('enable_nestloop', 'off', true),
  set_config('enable_seqscan', 'on', true),
  set_config('enable_hashjoin', 'on', true),
  set_config('enable_mergejoin', 'on', true)
