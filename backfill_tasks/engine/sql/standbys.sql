-- The number of this server's standbys, the lag of the slowest one, and whether this role may see it.
SELECT
  pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS may_see_all,
  quote_ident(current_user) AS role,
  count(*) AS standbys,
  coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 AS lag
FROM pg_stat_replication
