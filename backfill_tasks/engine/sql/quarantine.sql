-- Quarantine an item with its error; an item that is already there and fails again keeps its page and gets the new
-- error.
INSERT INTO backfill.quarantine
  (run_id, item, lane, page, error, sqlstate, constraint_name, table_name, column_name)
VALUES (:run, :item, :lane, :page, :error, :sqlstate, :constraint, :table, :column)
ON CONFLICT (run_id, item) DO UPDATE SET
  error = EXCLUDED.error,
  sqlstate = EXCLUDED.sqlstate,
  constraint_name = EXCLUDED.constraint_name,
  table_name = EXCLUDED.table_name,
  column_name = EXCLUDED.column_name,
  at = now()
