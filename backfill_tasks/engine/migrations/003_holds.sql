-- Holds: when pages were put off and why, for the report on a run.

-- A row for each kind of reason that a page was put off for. A page that waits many times for the same kind has one,
-- whose end and words move on; one that waits again after its lane was seeded anew has another.
CREATE TABLE backfill.hold (
  run_id     text             NOT NULL,
  lane       integer          NOT NULL,
  page       integer          NOT NULL,
  generation integer          NOT NULL,
  kind       text             NOT NULL,                -- the indicator's name, or another short name of the reason
  reason     text             NOT NULL,                -- in words, as it was last
  since      timestamptz      NOT NULL DEFAULT now(),  -- when the page was first put off for it
  until      timestamptz      NOT NULL,                -- when it asks again
  seconds    double precision NOT NULL,                -- for how long it was put off for it, all times together
  PRIMARY KEY (run_id, lane, page, generation, kind),
  FOREIGN KEY (run_id, lane) REFERENCES backfill.lane (run_id, number) ON DELETE CASCADE
);
