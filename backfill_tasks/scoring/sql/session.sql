-- A session with its counts and its money. A reservation that no living batch holds is `unknown`: its requests may or may
-- not have been sent, so it stays counted.
SELECT
  session.*,
  now() AS seen_at,
  slots.*,
  money.*,
  provider.*
FROM backfill.scoring AS session
CROSS JOIN LATERAL (
  SELECT
    count(*) AS slots,
    count(*) FILTER (WHERE slot.beat_at > now() - :stale_seconds * interval '1 second' OR slot.held_until > now()) AS alive,
    coalesce(sum(slot.batch), 0)::bigint AS batches,
    coalesce(sum(slot.scored), 0)::bigint AS scored,
    coalesce(sum(slot.unchanged), 0)::bigint AS unchanged,
    coalesce(sum(slot.retried), 0)::bigint AS retried,
    coalesce(sum(slot.failed), 0)::bigint AS failed,
    coalesce(sum(slot.given_back), 0)::bigint AS given_back,
    coalesce(sum(slot.lost), 0)::bigint AS lost,
    coalesce(array_agg(DISTINCT slot.reason) FILTER (WHERE slot.reason IS NOT NULL), ARRAY[]::text[]) AS reasons
  FROM backfill.scoring_slot AS slot
  WHERE slot.session_id = session.id
) AS slots
CROSS JOIN LATERAL (
  SELECT
    coalesce(sum(spend.unknown), 0)::bigint AS unknown_spent,
    coalesce(
      sum(spend.reserved) FILTER (
        WHERE spend.settled_at IS NULL AND (
          slot.generation <> spend.generation
          OR slot.beat_at <= now() - :stale_seconds * interval '1 second'
          OR session.state <> 'running'
        )
        AND submission.id IS NULL
      ),
      0
    )::bigint AS unknown_reserved,
    coalesce(sum(spend.requests), 0)::bigint AS requests,
    coalesce(sum(spend.input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(spend.output_tokens), 0)::bigint AS output_tokens
  FROM backfill.spend
  LEFT JOIN backfill.scoring_slot AS slot ON slot.session_id = spend.session_id AND slot.number = spend.slot
  -- What a provider has isn't lost: its slot will collect it.
  LEFT JOIN backfill.batch AS submission
    ON submission.state IN ('submitting', 'submitted', 'ended') AND spend.holder = :holder_prefix || submission.id
  WHERE spend.session_id = session.id
) AS money
CROSS JOIN LATERAL (
  SELECT
    count(*) FILTER (WHERE is_open) AS open_batches,
    coalesce(sum(requests) FILTER (WHERE is_open), 0)::bigint AS open_requests,
    count(*) FILTER (WHERE is_open AND unwanted) AS cancelled_batches,
    coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE is_open)), 0)::float8 AS open_seconds,
    coalesce(sum(ambiguous), 0)::bigint AS ambiguous
  FROM (
    SELECT requests, unwanted, created_at, ambiguous, state IN ('submitting', 'submitted', 'ended') AS is_open
    FROM backfill.batch
    WHERE session_id = session.id
  ) AS submission
) AS provider
WHERE session.id = :session
