-- When our own scorers claimed jobs that were due, and so stood in the host's queue: a job's row doesn't say who has done
-- it, but it has the time of its claim. A bound that sizes itself to the host's drain leaves these jobs out.

CREATE TABLE backfill.claim (
  started_at timestamp(3) NOT NULL  -- UTC, as in the jobs' "startedAt"
);

CREATE INDEX claim_started_at_idx ON backfill.claim (started_at);
