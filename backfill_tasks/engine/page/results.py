"""The possible results of a page: committed, refused, or put off."""

from dataclasses import dataclass
from typing import Literal

from backfill_tasks.engine.model import Lane, PageMessage, PageResult

Refusal = Literal["superseded", "duplicate", "inactive", "unknown", "poison"]
"""The reason for refusing a page.

`superseded`: a newer chain walks the lane. `duplicate`: the page is already committed. `inactive`: the run isn't
running, or the lane has ended. `unknown`: the ledger expects no such page. `poison`: the page has ended its worker too
often.
"""


@dataclass(frozen=True)
class Committed:
    """The page is committed.

    `next_lane`: the lane in which a single batch continues, if not in this one.
    """

    result: PageResult
    quarantined: int
    lane_done: bool
    run_goes_on: bool
    delay_ms: int
    next_lane: int | None = None


@dataclass(frozen=True)
class Refused:
    """The page was not done and nothing was changed. `lane`: as the ledger has it; None if there is none."""

    why: Refusal
    lane: Lane | None = None


@dataclass(frozen=True)
class PutOff:
    """The page may not start now; send `again` after `seconds`."""

    again: PageMessage
    seconds: float
    reason: str
