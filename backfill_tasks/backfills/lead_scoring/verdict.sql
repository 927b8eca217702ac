-- The verdict on each eligible lead. The part "leads" is the statement that reads them, verify.sql or verify_full.sql;
-- its last row describes the stretch and has no lead.
--
-- Leads without a job that became eligible only after the run began (new, or without an inbound message until then) are
-- counted separately, as arrived: the host's own jobs cover them. A time in the future doesn't tell when that was. A
-- job that has ended counts as without a result unless the lead has a score; in a run over scored leads, the score must
-- be newer than the run's start. A score is invalid if one of its three numbers is outside the range; only scores since
-- the run's start that may come from its jobs are looked at.
WITH judged AS MATERIALIZED (
  SELECT
    cursor,
    looked_at,
    id,
    CASE
      WHEN id IS NULL THEN NULL
      WHEN
        job_id IS NULL
        AND eligible_since >= :started_at
        AND eligible_since < now() AT TIME ZONE 'UTC' + interval '1 day'
        THEN 'arrived'
      WHEN job_id IS NULL THEN 'missing'
      WHEN job_status IN ('PENDING', 'RUNNING') THEN 'waiting'
      WHEN out_of_range AND "scoredAt" >= :started_at THEN 'invalid'
      WHEN "overallScore" IS NOT NULL AND "scoredAt" >= :started_at THEN 'scored'
      WHEN job_status = 'FAILED' THEN 'failed'
      WHEN job_status = 'SUCCEEDED' THEN 'without_score'
      ELSE 'unknown_status'
    END AS verdict
  FROM (
{leads}
  ) AS found
  CROSS JOIN LATERAL (
    SELECT
      least("fitScore", "intentScore", "overallScore") < :lowest
      OR greatest("fitScore", "intentScore", "overallScore") > :highest
      AS out_of_range
  ) AS range
  WHERE
    "overallScore" IS NULL
    OR (:rescore_all AND NOT coalesce("sentimentTag" = ANY (:disqualifying), false))
    OR (out_of_range AND "scoredAt" >= :started_at AND job_status NOT IN ('PENDING', 'RUNNING'))
)
SELECT
  max(cursor) AS cursor,
  max(looked_at) AS looked_at,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'missing'), ARRAY[]::text[]) AS missing,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'failed'), ARRAY[]::text[]) AS failed,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'without_score'), ARRAY[]::text[]) AS without_score,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'unknown_status'), ARRAY[]::text[]) AS unknown_status,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'invalid'), ARRAY[]::text[]) AS invalid,
  count(DISTINCT id) FILTER (WHERE verdict = 'waiting') AS waiting,
  count(DISTINCT id) FILTER (WHERE verdict = 'arrived') AS arrived
FROM judged
