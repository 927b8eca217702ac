-- Bound: what is known of the host's drain, for a bound on waiting jobs that sizes itself.

-- One row per backfill, because all its runs fill one queue. A page reads and writes it during its turn.
CREATE TABLE backfill.bound (
  backfill text        PRIMARY KEY,
  state    jsonb       NOT NULL,                -- engine/admission/bound.py, Bound
  at       timestamptz NOT NULL DEFAULT now()   -- when it was last written
);
