"""The ledger in PostgreSQL: runs, lanes, pages, quarantine, events. Each function is one step of a transaction."""

from backfill_tasks.engine.ledger.pages import Fence, Tally, fail_lane, fence, hold_back, put_off, record, take_turn
from backfill_tasks.engine.ledger.quarantine import (
    Place,
    count_quarantined,
    hold_quarantined,
    keep_in_quarantine,
    quarantined,
    release,
)
from backfill_tasks.engine.ledger.reading import Event, claims, events, newest_run, newest_runs, read_run
from backfill_tasks.engine.ledger.rows import note, who
from backfill_tasks.engine.ledger.runs import (
    NewRun,
    StandingLane,
    create,
    finish,
    raise_generations,
    reopen,
    revive,
    running,
    set_state,
    standing,
    tune,
    unended,
)

__all__ = [
    "Event",
    "Fence",
    "NewRun",
    "Place",
    "StandingLane",
    "Tally",
    "claims",
    "count_quarantined",
    "create",
    "events",
    "fail_lane",
    "fence",
    "finish",
    "hold_back",
    "hold_quarantined",
    "keep_in_quarantine",
    "newest_run",
    "newest_runs",
    "note",
    "put_off",
    "quarantined",
    "raise_generations",
    "read_run",
    "record",
    "release",
    "reopen",
    "revive",
    "running",
    "set_state",
    "standing",
    "take_turn",
    "tune",
    "unended",
    "who",
]
