-- Submissions to a provider's Batch API. A row is committed before anything is uploaded, and the provider's batch has the
-- row's id in its metadata, so a submission whose worker died is found again. No row has anything of a conversation.

CREATE TABLE backfill.batch (
  id            text        PRIMARY KEY,            -- ours: the file's name, and the batch's metadata
  account       text        NOT NULL,               -- a hash of the API's address and key
  model         text        NOT NULL,
  state         text        NOT NULL DEFAULT 'submitting'
                CHECK (state IN ('submitting', 'submitted', 'ended', 'closed', 'unmade', 'lost')),
  file_id       text,                               -- the provider's ids, each recorded when it is known
  provider_id   text,
  output_ids    text[]      NOT NULL DEFAULT '{}',  -- the files with results and errors
  verdict       text,                               -- how the provider ended it: completed, expired, cancelled, failed
  requests      integer     NOT NULL,
  ambiguous     integer     NOT NULL DEFAULT 0,     -- requests that may have been paid for without a result
  input_tokens  bigint      NOT NULL,               -- the upper bound of all its requests
  output_tokens bigint      NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  changed_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX batch_open_idx ON backfill.batch (created_at) WHERE state IN ('submitting', 'submitted', 'ended');

-- The jobs of a submission. A job is in one open submission at most, so no lead is paid for twice.
CREATE TABLE backfill.batch_request (
  batch_id text    NOT NULL REFERENCES backfill.batch ON DELETE CASCADE,
  job      text    NOT NULL,
  is_open  boolean NOT NULL DEFAULT true,
  PRIMARY KEY (batch_id, job)
);

CREATE UNIQUE INDEX batch_request_open_idx ON backfill.batch_request (job) WHERE is_open;
