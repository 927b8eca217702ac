-- The plan: one narrow row per lead, made before any lead exists. The tables are then filled from the plan, so that a
-- lead, its messages and its jobs are consistent.
--
--   thread    replied: messages both ways; tied: the same, and the two newest inbound ones have the same sentAt;
--             outbound: none of the messages is inbound; none: no messages
--   opens     1 if the lead wrote first, else 0: message k is inbound if k + opens is even
--   messages  how many there are, without the second one of a tie
--   pace      message k was sent at created_at + k * pace

-- The first leads show every case once, so that a small database has them all. They are left out if a number of
-- eligible leads is given, because they would change it.
CREATE TEMPORARY TABLE sample_case AS
SELECT *
FROM (
  VALUES
    -- Leads that take part, with the possible kinds of anchor.
    (1, 'Interested', 'replied', NULL::INTEGER, NULL),
    (2, NULL, 'replied', NULL, NULL),
    (3, 'Meeting Requested', 'tied', NULL, NULL),
    -- The possible states of a job left over from an earlier backfill.
    (4, 'Interested', 'replied', NULL, 'PENDING'),
    (5, 'Not Interested', 'replied', NULL, 'RUNNING'),
    (6, 'Information Requested', 'replied', NULL, 'SUCCEEDED'),
    (7, NULL, 'tied', NULL, 'FAILED'),
    -- Leads that don't take part: they never answered, or they have a score.
    (8, NULL, 'outbound', NULL, NULL),
    (9, NULL, 'none', NULL, NULL),
    (10, 'Not Interested', 'replied', 1, NULL),
    (11, 'Neutral', 'replied', 2, NULL),
    (12, 'Interested', 'tied', 3, 'SUCCEEDED'),
    (13, 'Meeting Requested', 'replied', 4, 'SUCCEEDED'),
    (14, NULL, 'outbound', 2, NULL),
    -- All tags that disqualify.
    (15, 'Blacklist', 'replied', NULL, NULL),
    (16, 'Opt Out', 'replied', NULL, NULL),
    (17, 'Opted Out', 'replied', NULL, NULL),
    (18, 'Unsubscribe', 'replied', NULL, NULL),
    (19, 'Unsubscribed', 'replied', NULL, NULL),
    (20, 'Bounced', 'replied', NULL, NULL),
    (21, 'Bounce', 'replied', NULL, NULL),
    -- Near misses, which don't disqualify.
    (22, 'blacklist', 'replied', NULL, NULL),
    (23, 'Bounced ', 'replied', NULL, NULL),
    (24, 'Opt-Out', 'replied', NULL, NULL),
    (25, 'UNSUBSCRIBED', 'replied', NULL, NULL),
    (26, '', 'replied', NULL, NULL),
    -- Combinations.
    (27, 'Blacklist', 'outbound', NULL, NULL),
    (28, 'Unsubscribed', 'replied', 1, NULL),
    (29, 'Opted Out', 'tied', NULL, 'PENDING'),
    (30, 'Unsubscribe', 'replied', NULL, 'RUNNING'),
    (31, 'Interested', 'replied', 3, 'RUNNING'),
    (32, 'Neutral', 'replied', 2, 'FAILED')
) AS shown (n, tag, thread, score, job)
WHERE %(eligible)s::BIGINT IS NULL;

CREATE TEMPORARY TABLE sample_plan AS
WITH
  -- Spread the eligible leads evenly: the product steps over exactly as many whole numbers as leads are wanted. NULL:
  -- no number is given.
  numbered AS (
    SELECT n, n * %(eligible)s::BIGINT / %(leads)s > (n - 1) * %(eligible)s::BIGINT / %(leads)s AS wanted
    FROM generate_series(1, %(leads)s::BIGINT) AS n
  ),
  scored AS (
    SELECT
      n,
      wanted,
      shown.n IS NOT NULL AS is_case,
      shown.tag AS case_tag,
      shown.thread AS case_thread,
      shown.job AS case_job,
      CASE
        WHEN shown.n IS NOT NULL THEN shown.score
        WHEN wanted THEN NULL
        WHEN pg_temp.draw(n, 'scored') < %(scored_share)s THEN
          1 + width_bucket(pg_temp.draw(n, 'score'), ARRAY[0.36, 0.73, 0.94]::DOUBLE PRECISION[])
      END AS score
    FROM numbered
    LEFT JOIN sample_case AS shown USING (n)
  ),
  threaded AS (
    SELECT
      *,
      CASE
        WHEN is_case THEN case_thread
        WHEN wanted OR score IS NOT NULL THEN
          CASE WHEN pg_temp.draw(n, 'thread') < 0.95 THEN 'replied' ELSE 'tied' END
        WHEN NOT wanted THEN
          CASE WHEN pg_temp.draw(n, 'thread') < 0.80 THEN 'outbound' ELSE 'none' END
        WHEN pg_temp.draw(n, 'thread') < 0.52 THEN 'replied'
        WHEN pg_temp.draw(n, 'thread') < 0.55 THEN 'tied'
        WHEN pg_temp.draw(n, 'thread') < 0.90 THEN 'outbound'
        ELSE 'none'
      END AS thread
    FROM scored
  ),
  counted AS (
    SELECT
      *,
      thread IN ('replied', 'tied') AS answers,
      CASE
        WHEN thread = 'none' THEN 0
        WHEN thread = 'outbound' THEN 1 + floor(3 * pg_temp.draw(n, 'messages'))::INTEGER
        ELSE 2 + floor(4 * pg_temp.draw(n, 'messages'))::INTEGER
      END AS messages,
      CASE WHEN pg_temp.draw(n, 'opens') < 0.15 THEN 1 ELSE 0 END AS opens,
      -- Leads arrive over two years, in the order of their numbers.
      (%(until)s - INTERVAL '730 days' * (1 - (n - pg_temp.draw(n, 'created')) / %(leads)s))::TIMESTAMP(3) AS created_at
    FROM threaded
  )
SELECT
  n,
  pg_temp.id('lead', n) AS id,
  -- Of 100 leads, the first workspace has 46 and the seventh has 2; the eighth has one in 500.
  (SELECT array_agg(client.id ORDER BY client.n) FROM sample_client AS client)[
    1 + width_bucket(pg_temp.draw(n, 'client'), ARRAY[0.46, 0.69, 0.82, 0.90, 0.95, 0.978, 0.998]::DOUBLE PRECISION[])
  ] AS client_id,
  CASE
    WHEN is_case THEN case_tag
    WHEN NOT answers THEN
      pg_temp.pick(
        ARRAY[NULL, NULL, NULL, NULL, NULL, NULL, 'New', 'New', 'Bounced', 'Blacklist'],
        pg_temp.draw(n, 'tag')
      )
    ELSE
      pg_temp.pick(
        ARRAY[
          NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Neutral', 'Neutral', 'Neutral',
          'Neutral', 'Neutral', 'Neutral', 'Neutral', 'Neutral', 'Interested', 'Interested', 'Interested', 'Interested',
          'Interested', 'Interested', 'Interested', 'Interested', 'Not Interested', 'Not Interested', 'Not Interested',
          'Not Interested', 'Not Interested', 'Not Interested', 'Information Requested', 'Information Requested',
          'Information Requested', 'Information Requested', 'Meeting Requested', 'Meeting Requested',
          'Meeting Requested', 'Meeting Requested', 'Follow Up', 'Follow Up', 'Follow Up', 'Out of Office',
          'Out of Office', 'Meeting Booked', 'Blacklist', 'Opt Out', 'Opted Out', 'Unsubscribe', 'Unsubscribed',
          'Bounced', 'Bounce', 'blacklist', 'Bounced ', 'Opt-Out', 'UNSUBSCRIBED', ''
        ],
        pg_temp.draw(n, 'tag')
      )
  END AS tag,
  score,
  is_case,
  answers,
  thread = 'tied' AS tied,
  opens,
  messages,
  CASE WHEN answers THEN messages - mod(messages + opens, 2) END AS last_inbound,
  CASE
    WHEN answers THEN messages - mod(messages + opens + 1, 2)
    WHEN messages > 0 THEN messages
  END AS last_outbound,
  created_at,
  -- At most five steps, each of at most an eighth of the remaining time: no message is sent after the end.
  least((%(until)s - created_at) / 8, INTERVAL '1 minute' + INTERVAL '6 days' * pg_temp.draw(n, 'pace')) AS pace,
  CASE
    WHEN is_case THEN case_job
    WHEN NOT answers OR pg_temp.draw(n, 'left over') >= 0.06 THEN NULL
    WHEN score IS NOT NULL THEN 'SUCCEEDED'
    ELSE
      pg_temp.pick(
        ARRAY[
          'SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED', 'PENDING', 'PENDING', 'PENDING', 'FAILED', 'FAILED',
          'RUNNING'
        ],
        pg_temp.draw(n, 'status')
      )
  END AS job
FROM counted;

ANALYZE sample_plan;
