-- The ledger: the live cursors in Redis are rebuilt from it, and its primary keys make a page happen exactly once.
-- It references no table of the host, and no trigger or rule connects the two.

CREATE TABLE backfill.run (
  id           text        PRIMARY KEY,
  backfill     text        NOT NULL,
  state        text        NOT NULL CHECK (state IN ('running', 'paused', 'cancelled', 'complete', 'failed')),
  reason       text,
  parameters   jsonb       NOT NULL,
  single_batch boolean     NOT NULL DEFAULT false,
  ordinal      bigint      NOT NULL DEFAULT 0,  -- items numbered so far, for backfills that number them
  expected     bigint,                           -- items to be read, if they were counted beforehand
  started_by   text        NOT NULL,
  started_at   timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
  finished_at  timestamptz
);

CREATE TABLE backfill.lane (
  run_id      text        NOT NULL REFERENCES backfill.run ON DELETE CASCADE,
  number      integer     NOT NULL,
  lower_bound text,                          -- exclusive; null: from the beginning
  upper_bound text        NOT NULL,          -- inclusive
  cursor      text,                          -- the last id passed; null: none yet
  page        integer     NOT NULL DEFAULT 0,  -- the last committed page
  generation  integer     NOT NULL DEFAULT 1,  -- incremented with every reseed; tasks of an older one are no-ops
  state       text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
  reason      text,
  counts      jsonb       NOT NULL DEFAULT '{}',
  moved_at    timestamptz NOT NULL DEFAULT now(),  -- last commit or reseed
  held_until  timestamptz NOT NULL DEFAULT now(),  -- the end of a page delay, a backoff or another postponement
  PRIMARY KEY (run_id, number)
);

-- One row per page, written in the page's own transaction: the primary key makes a page happen exactly once.
CREATE TABLE backfill.page (
  run_id     text             NOT NULL,
  lane       integer          NOT NULL,
  number     integer          NOT NULL,
  generation integer          NOT NULL,
  lower      text,
  cursor     text             NOT NULL,
  counts     jsonb            NOT NULL,
  at         timestamptz      NOT NULL DEFAULT now(),  -- the transaction's time, also stored in the host's rows
  seconds    double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp() - now()),
  PRIMARY KEY (run_id, lane, number),
  FOREIGN KEY (run_id, lane) REFERENCES backfill.lane (run_id, number) ON DELETE CASCADE
);

CREATE TABLE backfill.quarantine (
  run_id text        NOT NULL REFERENCES backfill.run ON DELETE CASCADE,
  item   text        NOT NULL,
  lane   integer     NOT NULL,
  page   integer     NOT NULL,
  error  text        NOT NULL,
  at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, item)
);

CREATE TABLE backfill.event (
  id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id text        NOT NULL REFERENCES backfill.run ON DELETE CASCADE,
  name   text        NOT NULL,
  detail jsonb       NOT NULL DEFAULT '{}',
  who    text        NOT NULL,
  at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX event_run_id_idx ON backfill.event (run_id, id);
