-- Holds: when and why pages were postponed, for a run's report.

-- One row per page and kind of reason. A page that is postponed repeatedly for the same kind keeps its row, with a new
-- end and reason; after a reseed it gets a new row.
CREATE TABLE backfill.hold (
  run_id     text             NOT NULL,
  lane       integer          NOT NULL,
  page       integer          NOT NULL,
  generation integer          NOT NULL,
  kind       text             NOT NULL,                -- the indicator's name, or another short name of the reason
  reason     text             NOT NULL,                -- the latest, in words
  since      timestamptz      NOT NULL DEFAULT now(),  -- when the page was first postponed for it
  until      timestamptz      NOT NULL,                -- when it asks again
  seconds    double precision NOT NULL,                -- the total postponement
  PRIMARY KEY (run_id, lane, page, generation, kind),
  FOREIGN KEY (run_id, lane) REFERENCES backfill.lane (run_id, number) ON DELETE CASCADE
);
