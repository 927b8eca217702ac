-- Scoring here: sessions, their slots, and what they spend. Money is in millionths of the price list's currency.

CREATE TABLE backfill.scoring (
  id          text        PRIMARY KEY,
  scorer      text        NOT NULL,
  state       text        NOT NULL CHECK (state IN ('running', 'stopped', 'exhausted', 'complete')),
  reason      text,
  parameters  jsonb       NOT NULL,
  max_spend   bigint      CHECK (max_spend >= 0),  -- null: no budget
  spent       bigint      NOT NULL DEFAULT 0,      -- of settled batches
  reserved    bigint      NOT NULL DEFAULT 0,      -- of batches that aren't settled, whether alive or not
  started_by  text        NOT NULL,
  started_at  timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
  finished_at timestamptz
);

-- One session at a time: two would each keep to a budget of its own.
CREATE UNIQUE INDEX scoring_running_idx ON backfill.scoring (state) WHERE state = 'running';

-- One chain of batches. The primary key and the generation fence it, as they do for a lane.
CREATE TABLE backfill.scoring_slot (
  session_id text        NOT NULL REFERENCES backfill.scoring ON DELETE CASCADE,
  number     integer     NOT NULL,
  generation integer     NOT NULL DEFAULT 1,
  batch      integer     NOT NULL DEFAULT 0,      -- the last batch that has begun
  beat_at    timestamptz NOT NULL DEFAULT now(),  -- the last sign of life
  held_until timestamptz NOT NULL DEFAULT now(),  -- when the next batch may begin
  reason     text,                                -- why it waits; null: it doesn't
  failing    integer     NOT NULL DEFAULT 0,      -- batches in a row in which every request failed
  scored     bigint      NOT NULL DEFAULT 0,
  unchanged  bigint      NOT NULL DEFAULT 0,
  retried    bigint      NOT NULL DEFAULT 0,
  failed     bigint      NOT NULL DEFAULT 0,
  given_back bigint      NOT NULL DEFAULT 0,
  lost       bigint      NOT NULL DEFAULT 0,
  PRIMARY KEY (session_id, number)
);

-- One row per batch with paid requests, written before the first of them is sent.
CREATE TABLE backfill.spend (
  holder        text        PRIMARY KEY,  -- the batch, as in the jobs' lockedBy
  session_id    text        NOT NULL REFERENCES backfill.scoring ON DELETE CASCADE,
  slot          integer     NOT NULL,
  generation    integer     NOT NULL,
  model         text        NOT NULL,
  requests      integer     NOT NULL,
  reserved      bigint      NOT NULL,           -- the sum of the requests' upper bounds
  spent         bigint,                         -- null: not settled
  unknown       bigint      NOT NULL DEFAULT 0, -- the part of spent that is an upper bound, because no usage is known
  input_tokens  bigint      NOT NULL DEFAULT 0,
  output_tokens bigint      NOT NULL DEFAULT 0,
  at            timestamptz NOT NULL DEFAULT now(),
  settled_at    timestamptz
);

CREATE INDEX spend_session_id_idx ON backfill.spend (session_id);
