-- The scores of a run's leads, by workspace, and where they come from. A lead is the run's if one of its pages has
-- enqueued it or, at the page's own time, disqualified it. One row per workspace, score and source.
--
-- source is
--   disqualified  the page gave the lowest score for the lead's tag
--   tag           the host or a batch of ours did, because the lead got its tag after the page
--   here          a batch of ours scored the lead: it ends the job and scores the lead in one transaction, so both rows
--                 carry one time
--   host          anything else: the host writes the two rows one after the other, at least a round trip apart
--   NULL          the lead has no score from after the run's start
--   beside        the lead isn't the run's, and has a score; those are counted by index only
-- A lead that is gone has no workspace. A score may have any value: the host's column has no check.
--
-- Reads the run's pages, one lead and one job for each item by key, and the leads with a disqualifying tag by the index on
-- sentimentTag. The last part reads the entries of the index on clientId and overallScore, for the run's workspaces.
WITH wrote AS MATERIALIZED (
  SELECT enqueued, released, at, retried FROM backfill.page WHERE run_id = :run
),
item AS MATERIALIZED (
  SELECT each.id FROM wrote CROSS JOIN LATERAL unnest(wrote.enqueued) AS each (id)
  UNION
  SELECT each.id FROM wrote CROSS JOIN LATERAL unnest(wrote.released) AS each (id)
),
enqueued AS (
  SELECT
    lead.client,
    lead.score,
    CASE
      WHEN lead.score IS NULL THEN NULL
      WHEN starts_with(lead.reasoning, 'Disqualified: ') THEN 'tag'
      WHEN lead.scored_at = job.finished_at THEN 'here'
      ELSE 'host'
    END AS source
  FROM item
  -- Lateral, so that each is looked up by its key, whatever the statistics say.
  LEFT JOIN LATERAL (
    SELECT
      "clientId" AS client,
      CASE
        WHEN NOT :rescore_all OR "scoredAt" >= CAST(:started_at AS timestamptz) AT TIME ZONE 'UTC' THEN "overallScore"
      END AS score,
      "scoredAt" AS scored_at,
      "scoreReasoning" AS reasoning
    FROM {host}."Lead"
    WHERE id = item.id
    LIMIT 1
  ) AS lead ON true
  LEFT JOIN LATERAL (
    SELECT "finishedAt" AS finished_at
    FROM {host}."BackgroundJob"
    WHERE "dedupeKey" = :key_prefix || item.id
    LIMIT 1
  ) AS job ON true
),
disqualified AS (
  SELECT "clientId" AS client, "overallScore" AS score, 'disqualified' AS source
  FROM {host}."Lead"
  WHERE
    "sentimentTag" = ANY (:disqualifying)
    AND starts_with("scoreReasoning", :disqualified_reasoning)
    AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
    -- coalesce() keeps the subquery a hash table that is probed, where a join would be a nested loop.
    AND coalesce(
      "scoredAt" IN (
        SELECT CAST(moment AT TIME ZONE 'UTC' AS timestamp(3))
        FROM wrote CROSS JOIN LATERAL unnest(ARRAY[at] || retried) AS each (moment)
      ),
      false
    )
),
own AS MATERIALIZED (
  SELECT client, score, source, count(*) AS leads
  FROM (TABLE enqueued UNION ALL TABLE disqualified) AS each
  GROUP BY client, score, source
),
-- All scores of the run's workspaces; the run's own are taken off.
scored AS (
  SELECT workspace.client, every.score, every.leads
  FROM (SELECT DISTINCT client FROM own WHERE client IS NOT NULL) AS workspace
  CROSS JOIN LATERAL (
    SELECT "overallScore" AS score, count(*) AS leads
    FROM {host}."Lead"
    WHERE "clientId" = workspace.client AND "overallScore" IS NOT NULL
    GROUP BY 1
  ) AS every
)
SELECT client, score, source, leads FROM own
UNION ALL
SELECT client, score, 'beside', sum(leads)::bigint
FROM (
  SELECT client, score, leads FROM scored
  UNION ALL
  SELECT client, score, -leads FROM own WHERE source IS NOT NULL AND client IS NOT NULL
) AS each
GROUP BY client, score
HAVING sum(leads) > 0
