-- Submissions of `backfill work`: each belongs to a slot, which polls it, and holds its jobs by a lease that is dated ahead.

ALTER TABLE backfill.batch
  ADD COLUMN session_id text    REFERENCES backfill.scoring ON DELETE CASCADE,
  ADD COLUMN slot       integer,
  ADD COLUMN held_until timestamptz,                   -- when the last of its jobs' leases ends
  ADD COLUMN unwanted   boolean NOT NULL DEFAULT false, -- the operator stopped it: it is to be cancelled
  ADD COLUMN written    boolean NOT NULL DEFAULT false; -- its results are in the host's tables; its files may still exist

-- What is reserved for one request in the budget, in millionths, and its input tokens by estimate.
ALTER TABLE backfill.batch_request
  ADD COLUMN bound            bigint  NOT NULL DEFAULT 0,
  ADD COLUMN estimated_tokens integer NOT NULL DEFAULT 0;

-- For forecasts: how many requests were answered with a usage, and how many input tokens were estimated for them.
ALTER TABLE backfill.spend
  ADD COLUMN answered         integer NOT NULL DEFAULT 0,
  ADD COLUMN estimated_tokens bigint  NOT NULL DEFAULT 0;
