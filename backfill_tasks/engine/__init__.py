"""The engine: runs, lanes, pages, ledger and live cursor. It knows nothing of any particular backfill."""
