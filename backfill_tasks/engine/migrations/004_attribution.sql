-- Attribution: which jobs belong to a run, and which lane a single batch walks.

-- The items that the page put into the host's queue. Null: unknown, because the page is older than this column.
ALTER TABLE backfill.page ADD COLUMN enqueued text[];

-- Quarantined items of the page that were put into the queue later, and the time of each.
ALTER TABLE backfill.page
  ADD COLUMN released    text[]        NOT NULL DEFAULT '{}',
  ADD COLUMN released_at timestamptz[] NOT NULL DEFAULT '{}';

-- The only lane that may move during a single batch; null: all may.
ALTER TABLE backfill.run ADD COLUMN batch_lane integer;
