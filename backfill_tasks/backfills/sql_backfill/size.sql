-- The number of a table's blocks, including its partitions'.
SELECT
  (
    SELECT coalesce(sum(pg_relation_size(relid)), pg_relation_size(CAST(:table AS regclass)))
    FROM pg_partition_tree(CAST(:table AS regclass))
  ) / CAST(current_setting('block_size') AS int) AS blocks
