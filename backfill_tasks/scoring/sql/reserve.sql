-- Reserve the upper bounds of a batch's requests, in order, as many as fit into the session's budget. The session's row
-- is locked first, so concurrent batches take turns, and each sees what the others have reserved.
WITH session AS MATERIALIZED (
  SELECT id, state, max_spend, spent, reserved FROM backfill.scoring WHERE id = :session FOR NO KEY UPDATE
),
fitting AS MATERIALIZED (
  SELECT count(*) AS requests, coalesce(max(total), 0)::bigint AS amount
  FROM session
  CROSS JOIN (
    SELECT sum(cost) OVER (ORDER BY place)::bigint AS total
    FROM unnest(CAST(:costs AS bigint[])) WITH ORDINALITY AS each (cost, place)
  ) AS bound
  WHERE
    session.state = 'running'
    AND (session.max_spend IS NULL OR session.spent + session.reserved + bound.total <= session.max_spend)
),
noted AS (
  INSERT INTO backfill.spend (holder, session_id, slot, generation, model, requests, reserved)
  SELECT :holder, :session, :slot, :generation, :model, fitting.requests, fitting.amount
  FROM fitting
  WHERE fitting.requests > 0
  RETURNING reserved
),
taken AS (
  UPDATE backfill.scoring AS session
  SET reserved = session.reserved + noted.reserved
  FROM noted
  WHERE session.id = :session
)
SELECT requests FROM fitting
