-- What became of each eligible lead. The part "leads" is the statement that reads them, verify.sql or verify_full.sql; its
-- last row has the stretch and no lead.
--
-- Leads that became eligible only after the run began (new, or without an inbound message until then) and have no job are
-- counted apart: the host's own jobs are theirs. A time in the future says nothing of when that was. A job that ended counts as without a result unless the lead has a score,
-- and of a run over scored leads unless that score is younger than the run.
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
      WHEN "overallScore" IS NOT NULL AND "scoredAt" >= :started_at THEN 'scored'
      WHEN job_status = 'FAILED' THEN 'failed'
      WHEN job_status = 'SUCCEEDED' THEN 'without_score'
      ELSE 'unknown_status'
    END AS verdict
  FROM (
{leads}
  ) AS found
  WHERE
    "overallScore" IS NULL
    OR (:rescore_all AND NOT coalesce("sentimentTag" = ANY (:disqualifying), false))
)
SELECT
  max(cursor) AS cursor,
  max(looked_at) AS looked_at,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'missing'), ARRAY[]::text[]) AS missing,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'failed'), ARRAY[]::text[]) AS failed,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'without_score'), ARRAY[]::text[]) AS without_score,
  coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE verdict = 'unknown_status'), ARRAY[]::text[]) AS unknown_status,
  count(DISTINCT id) FILTER (WHERE verdict = 'waiting') AS waiting,
  count(DISTINCT id) FILTER (WHERE verdict = 'arrived') AS arrived
FROM judged
