-- The settings of a transaction that reads a stretch as a page does. The caller makes the transaction read-only.
SELECT
  set_config('statement_timeout', :limit, true),
  set_config('lock_timeout', :limit, true),
  settings.*
FROM (
{sql/page_settings.sql}
) AS settings
