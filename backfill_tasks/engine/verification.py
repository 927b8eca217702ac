"""The verification: what the ledger says of a run, held against itself and against the database."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from backfill_tasks.engine import ledger
from backfill_tasks.engine.backfill import Backfill, PageClaim, PageContext
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.model import Bounds, Run, Window
from backfill_tasks.engine.page import PAGE_ROWS


@dataclass(frozen=True)
class Verification:
    """What the database says of a run.

    Attributes:
        missing: ids that the run has passed, that should have a result and have none, and are not in quarantine.
        arrived: how many became eligible only after the run began, and are not its own.
        quarantined: how many are in quarantine.
        found: for each class that leaves a trace: what the ledger counts, and what is there now. Less may be there:
            the host deletes and changes rows. More may not.
        contradictions: what the ledger says that can't be true, in words.
    """

    missing: tuple[str, ...]
    arrived: int
    quarantined: int
    found: Mapping[str, tuple[int, int]]
    contradictions: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing is missing and no count is wrong."""
        return not self.missing and not self.contradictions


@dataclass(frozen=True)
class Verifier:
    """Verifies runs, in short read-only transactions of up to `statement_ms` milliseconds a statement."""

    engine: Engine
    backfill: Backfill
    statement_ms: int

    def verify(self, run: Run) -> Verification:
        """Hold a run against the database: what it passed, lane by lane, and what its pages say that they did."""
        with self.engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.statement_ms)
            claims = ledger.claims(connection, run.id)
            number = ledger.count_quarantined(connection, run.id)
            quarantined = {each.item for each in ledger.quarantined(connection, run.id, most=number)}
        missing, arrived = self._missing(run)
        recounted = [(claim, self._recount(claim)) for claim in claims]
        return Verification(
            missing=tuple(item for item in missing if item not in quarantined),
            arrived=arrived,
            quarantined=number,
            found=_found(recounted),
            contradictions=(
                *_contradictions(run, claims, self.backfill.classes, number),
                *_false_claims(recounted),
            ),
        )

    def _missing(self, run: Run) -> tuple[list[str], int]:
        context = PageContext(run.parameters.options, run.started_at)
        missing: list[str] = []
        arrived = 0
        for lane in run.lanes:
            bounds = None if lane.cursor is None else Bounds(lane.bounds.lower, lane.cursor)
            while bounds is not None:
                with self.engine.begin() as connection:
                    begin_read_only(connection, statement_ms=self.statement_ms)
                    stretch = self.backfill.verify(connection, Window(bounds, PAGE_ROWS, PAGE_ROWS), context)
                missing += stretch.missing
                arrived += stretch.arrived
                bounds = None if stretch.cursor == bounds.upper else Bounds(stretch.cursor, bounds.upper)
        return missing, arrived

    def _recount(self, claim: PageClaim) -> dict[str, int]:
        with self.engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.statement_ms)
            return self.backfill.recount(connection, claim)


def _found(recounted: Sequence[tuple[PageClaim, dict[str, int]]]) -> dict[str, tuple[int, int]]:
    counted: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for claim, counts in recounted:
        there.update(counts)
        counted.update({name: claim.counts.get(name, 0) for name in counts})
    return {name: (counted[name], there[name]) for name in counted}


def _false_claims(recounted: Sequence[tuple[PageClaim, dict[str, int]]]) -> Iterator[str]:
    for claim, counts in recounted:
        for name, there in counts.items():
            said = claim.counts.get(name, 0)
            if there > said:
                yield f"lane {claim.lane} page {claim.page}: the ledger counts {said} {name}, the database has {there}"


def _contradictions(run: Run, claims: Sequence[PageClaim], classes: Iterable[str], quarantined: int) -> Iterator[str]:
    """Where pages, lanes and quarantine do not say the same."""
    for lane in run.lanes:
        pages = [claim for claim in claims if claim.lane == lane.number]
        totals: Counter[str] = Counter()
        position = lane.bounds.lower
        for claim in pages:
            if claim.lower != position:
                yield f"lane {lane.number} page {claim.page} starts after {claim.lower}, the last ended at {position}"
            handled = sum(claim.counts.get(name, 0) for name in (*classes, "quarantined"))
            if handled != claim.counts.get("read", 0):
                yield f"lane {lane.number} page {claim.page}: its classes do not add up to what it read"
            position = claim.cursor
            totals.update(claim.counts)
        if lane.cursor is not None and lane.cursor != position:
            yield f"lane {lane.number} stands at {lane.cursor}, its last page ended at {position}"
        for name in {*totals, *lane.counts}:
            if totals[name] != lane.counts.get(name, 0):
                yield f"lane {lane.number}: it counts {lane.counts.get(name, 0)} {name}, its pages {totals[name]}"
    counted = run.counts.get("quarantined", 0)
    if counted != quarantined:
        yield f"the lanes count {counted} quarantined, {quarantined} are in quarantine"
