"""The commands of `backfill`, one module each."""
