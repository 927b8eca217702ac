"""The commands of `backfill`, one file for each."""
