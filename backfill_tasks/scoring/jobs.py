"""The host's rules for scoring that both the backfill, which enqueues jobs, and the scorers, which do them, follow."""

#: The prefix of our jobs' dedupeKey: one job per lead, whichever run wrote it.
KEY_PREFIX = "lead_scoring_backfill:"

#: The values of Lead."sentimentTag", compared exactly, that disqualify a lead.
DISQUALIFYING = ("Blacklist", "Opt Out", "Opted Out", "Unsubscribe", "Unsubscribed", "Bounced", "Bounce")

#: What the scoreReasoning of a lead that a page has disqualified begins with; its tag follows.
DISQUALIFIED_REASONING = "Automatically disqualified: "

#: What lockedBy begins with while a batch of ours holds a job.
HOLDER_PREFIX = "backfill:"
