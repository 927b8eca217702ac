-- The drain: how workers call the host's own runner, and what has come of it.

-- One row, because a database has one host.
CREATE TABLE backfill.drain (
  id               boolean          PRIMARY KEY DEFAULT true CHECK (id),
  url              text             NOT NULL,
  every_seconds    double precision NOT NULL,
  parallel         integer          NOT NULL,
  until_done       boolean          NOT NULL,
  max_failure_rate double precision,                        -- 0 to 1; null: not asked
  max_live_wait    double precision NOT NULL,               -- in seconds; 0: not asked
  started_by       text             NOT NULL,
  started_at       timestamptz      NOT NULL DEFAULT now(),
  state            text             NOT NULL CHECK (state IN ('calling', 'waiting', 'backing off', 'paused', 'stopped')),
  kind             text             NOT NULL,               -- the reason in a word that never changes
  reason           text,                                    -- the same in a sentence
  since            timestamptz      NOT NULL DEFAULT now(), -- when it came into this state for this kind of reason
  judged_since     timestamptz      NOT NULL DEFAULT now(), -- only calls from then on count for the failure rate
  next_call_at     timestamptz      NOT NULL DEFAULT now(),
  failures         integer          NOT NULL DEFAULT 0,     -- the failed calls since the last good one
  looked_at        timestamptz,                             -- when a worker last looked after the drain
  -- The lease. A worker that takes it increments the generation; what an older one reports doesn't count.
  holder           text,
  generation       bigint           NOT NULL DEFAULT 0,
  lease_until      timestamptz      NOT NULL DEFAULT now()
);

-- The latest calls. A call without an end is in flight, or its worker is gone.
CREATE TABLE backfill.drain_call (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  generation bigint      NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at   timestamptz,
  result     text,                                 -- null: in flight, or not counted
  shown      text,                                 -- the answer in a line
  processed  integer     NOT NULL DEFAULT 0,
  spoiled    integer     NOT NULL DEFAULT 0        -- attempts that failed: jobs that the host retries or has given up
);

-- The totals of all calls, by their result.
CREATE TABLE backfill.drain_total (
  result    text   PRIMARY KEY,
  calls     bigint NOT NULL,
  processed bigint NOT NULL,
  succeeded bigint NOT NULL,
  failed    bigint NOT NULL,
  retried   bigint NOT NULL,
  skipped   bigint NOT NULL,
  released  bigint NOT NULL
);

-- An event without a run is the drain's.
ALTER TABLE backfill.event ALTER COLUMN run_id DROP NOT NULL;
