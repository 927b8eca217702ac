-- This server's WAL position, in bytes. On a standby: how far it has replayed. On a primary: the end of everything that
-- is visible now (position), and how much of it standbys can have by now (flushed). Commits are flushed at once, or, if
-- they don't wait for the disk, within three times wal_writer_delay; WAL that belongs to no commit, much later.
--
-- At the end of a WAL page the primary reports the first byte after the next page's header (24 bytes, 40 in a segment's
-- first page), but a standby the header's own position: no record ends between the two.
SELECT
  standby,
  CASE
    WHEN standby THEN position
    WHEN position % current_setting('wal_block_size')::bigint = 24 THEN position - 24
    WHEN position % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN position - 40
    ELSE position
  END AS position,
  CASE WHEN standby THEN position ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint END AS flushed,
  3 * extract(epoch FROM current_setting('wal_writer_delay')::interval)::float8 AS flush_seconds,
  has_function_privilege('pg_control_system()', 'EXECUTE') AS tells_its_system
FROM (
  SELECT
    pg_is_in_recovery() AS standby,
    pg_wal_lsn_diff(
      CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, '0/0'
    )::bigint AS position
) AS server
