-- Store the operator's orders. An active drain gets new ones: its calls in flight no longer count, because they may be
-- of another URL, and whoever takes the lease next follows the new orders.
INSERT INTO backfill.drain AS drain (
  url, every_seconds, parallel, until_done, max_failure_rate, max_live_wait, started_by, state, kind
)
VALUES (:url, :every, :parallel, :until_done, :max_failure_rate, :max_live_wait, :who, 'waiting', 'started')
ON CONFLICT (id) DO UPDATE
SET
  url = excluded.url,
  every_seconds = excluded.every_seconds,
  parallel = excluded.parallel,
  until_done = excluded.until_done,
  max_failure_rate = excluded.max_failure_rate,
  max_live_wait = excluded.max_live_wait,
  started_by = excluded.started_by,
  started_at = now(),
  state = excluded.state,
  kind = excluded.kind,
  reason = NULL,
  since = now(),
  judged_since = now(),
  next_call_at = now(),
  failures = 0,
  looked_at = NULL,
  generation = drain.generation + 1,
  lease_until = now()
