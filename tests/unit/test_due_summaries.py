"""A followed scoring session is shown when something changes, and else once a minute."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backfill_tasks.cli.due_summaries import DueSummaries
from backfill_tasks.scoring.sessions import AtProvider, Session
from backfill_tasks.scoring.written import Written

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAITING = Session(
    id="260301-120000-abcd",
    scorer="rules",
    state="running",
    reason=None,
    parameters={},
    started_at=START,
    finished_at=None,
    seen_at=START,
    slots=2,
    alive=2,
    batches=0,
    written=Written(),
    reasons=(),
    max_spend=None,
    spent=0,
    unknown_spent=0,
    reserved=0,
    unknown_reserved=0,
    requests=0,
    input_tokens=0,
    output_tokens=0,
    at_provider=AtProvider(),
)


@dataclass
class Clock:
    """A clock that a test moves."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


class Followed:
    """A session that is looked at once a second."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._due = DueSummaries(self.clock)

    def looks(self, *seen: Session) -> list[float]:
        """Look at each of these in turn, a second apart, and return at which seconds a summary was due."""
        shown = []
        for each in seen:
            self.clock.seconds += 1
            shown += [self.clock.seconds] if self._due(each) else []
        return shown


def scored(number: int) -> Session:
    return replace(WAITING, written=Written(scored=number))


def test_a_session_that_moves_is_shown_every_10_seconds() -> None:
    assert Followed().looks(*map(scored, range(35))) == [10, 20, 30]


def test_a_session_that_waits_is_shown_once_a_minute() -> None:
    assert Followed().looks(*[WAITING] * 140) == [10, 70, 130]


def test_a_session_without_a_worker_is_shown_once_a_minute() -> None:
    assert Followed().looks(*[replace(WAITING, alive=0)] * 75) == [10, 70]


def test_a_new_reason_is_shown_soon_and_its_details_are_not() -> None:
    failing = [replace(WAITING, reasons=[f"requests fail: {number}"]) for number in range(20)]

    assert Followed().looks(*[WAITING] * 15, *failing) == [10, 16]


def test_workers_that_vanish_are_shown_soon() -> None:
    assert Followed().looks(*[WAITING] * 15, *[replace(WAITING, alive=0)] * 20) == [10, 16]
