-- The current activity of the server's sessions, and whether this role may see those of others. "Others" are sessions
-- of this database that aren't ours. pg_stat_activity is read only once: reading it is the most expensive part.
WITH session AS MATERIALIZED (
  SELECT
    pid,
    state,
    state_change,
    xact_start,
    wait_event_type,
    backend_type = 'client backend' AS client,
    datname = current_database() AS here,
    datname = current_database() AND application_name <> current_setting('application_name') AS others
  FROM pg_stat_activity
)
SELECT
  pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS may_see_all,
  quote_ident(current_user) AS role,
  current_setting('max_connections')::int AS connections,
  count(*) FILTER (WHERE client AND state <> 'idle') AS active,
  count(*) FILTER (WHERE others AND wait_event_type = 'Lock') AS waiting,
  -- Ten seconds are longer than the pauses of a host in use, so the page size doesn't keep changing.
  count(*) FILTER (
    WHERE client AND others AND (state = 'active' OR state_change > clock_timestamp() - interval '10 seconds')
  ) AS others_at_work,
  coalesce(
    max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (WHERE client AND here AND pid <> pg_backend_pid()),
    0
  )::float8 AS oldest_seconds
FROM session
