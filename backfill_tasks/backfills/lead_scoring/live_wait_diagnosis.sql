-- Why live_wait.sql failed: whether this role may read the table (null: there is no table) and sees all of its rows,
-- who has locked it against readers, and the index that the query needs. Reads only the catalogs, so it needs no lock
-- on the table.
SELECT
  quote_ident(current_user) AS role,
  has_table_privilege(job.oid, 'SELECT') AS readable,
  row_security_active(job.oid) AS hidden,
  (
    SELECT min(pid)
    FROM pg_locks
    WHERE
      relation = job.oid
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'AccessExclusiveLock'
      AND granted
  ) AS locked_by,
  (
    SELECT min(format('%I.%I', pg_namespace.nspname, pg_class.relname))
    FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid
    JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE
      indrelid = job.oid
      AND indisvalid
      AND indpred IS NULL
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = job.oid AND attnum = indkey[0] AND attname = 'status')
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = job.oid AND attnum = indkey[1] AND attname = 'runAt')
  ) AS index
FROM (SELECT CAST(to_regclass(:name) AS oid) AS oid) AS job
