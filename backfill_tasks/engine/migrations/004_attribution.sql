-- Attribution: which jobs are a run's own, and which lane a single batch walks.

-- The items that a page put into the host's queue. Null: the page is older than this column, so it isn't known.
ALTER TABLE backfill.page ADD COLUMN enqueued text[];

-- The items of the page that were quarantined and went into the queue later, and when each did.
ALTER TABLE backfill.page
  ADD COLUMN released    text[]        NOT NULL DEFAULT '{}',
  ADD COLUMN released_at timestamptz[] NOT NULL DEFAULT '{}';

-- The only lane that may move while the run does a single batch; null: all may.
ALTER TABLE backfill.run ADD COLUMN batch_lane integer;
