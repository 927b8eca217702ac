-- The ledger's tables on which this role lacks a right that a run needs.
SELECT quote_ident(current_user) AS role, string_agg(quote_ident(relname), ', ' ORDER BY relname) AS tables
FROM pg_class
WHERE
  relnamespace = to_regnamespace('backfill')
  AND relkind = 'r'
  AND relname <> 'migration'
  AND NOT (
    has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
    AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
  )
