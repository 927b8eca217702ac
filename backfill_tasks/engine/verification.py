"""Verification: check what the ledger claims about a run against itself and against the database."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import ledger
from backfill_tasks.engine.contract import Backfill, PageClaim, PageContext, Stretch
from backfill_tasks.engine.database import begin_read_only, is_recovery_conflict, load_sql, statement
from backfill_tasks.engine.model import Bounds, Run, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.road import Road
from backfill_tasks.errors import UnverifiedError

T = TypeVar("T")

#: The statement time-out for reads of whole tables, in milliseconds. It is finite because the client's deadline is the
#: server's time-out plus a few seconds: without a time-out (0) the client would give up after those seconds.
_FULL_STATEMENT_MS = 86_400_000

#: How many times a read is attempted if a standby cancels it.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Verification:
    """The result of verifying a run.

    Attributes:
        missing: ids the run has passed that should have a result, have none, and are not in quarantine.
        arrived: the number of items that became eligible after the run started and don't belong to it.
        quarantined: the number of items in quarantine.
        found: for each class that leaves a trace: the ledger's count, and the number of rows there now. There may be
            fewer rows, because the host deletes and changes them, but never more.
        contradictions: claims of the ledger that can't be true, in words.
        looked_at: the number of rows examined.
        unresolved: ids whose job ended without a result, by the backfill's names, that are not in quarantine.
        waiting: the number of items whose jobs still wait for the host.
        left_alone: ids in `missing` that another run would leave as they are.
        hidden: ids in `missing` that show up in whole tables but not in indexes: another run wouldn't see them either.
        invalid: ids whose result can't be right.
        road: how far the run's items have come, read last and by index; None only where nothing was read.
    """

    missing: tuple[str, ...]
    arrived: int
    quarantined: int
    found: Mapping[str, tuple[int, int]]
    contradictions: tuple[str, ...]
    looked_at: int
    unresolved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: int = 0
    left_alone: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    road: Road | None = None

    @property
    def wrong(self) -> bool:
        """Whether an item is missing or a count is contradicted."""
        return bool(self.missing or self.contradictions)

    @property
    def clean(self) -> bool:
        """Whether rows were examined and none is wrong, in quarantine, or without a valid result after its job."""
        unresolved = any(self.unresolved.values()) or self.invalid
        return bool(self.looked_at) and not (self.wrong or self.quarantined or unresolved)


@dataclass(frozen=True)
class Verifier:
    """Verifies runs in short read-only transactions, with a time-out of `statement_ms` milliseconds per statement.

    `full`: find missing items and recount rows by sequential scans, in long statements, so a damaged index can't hide a
    row.
    """

    engine: Engine
    backfill: Backfill
    statement_ms: int
    full: bool = False

    def verify(self, run: Run) -> Verification:
        """Verify a run: what it has passed, lane by lane, and what its pages claim to have done.

        Raises:
            HostError: this role can't see all rows of the host.
            UnverifiedError: a standby cancelled the same read repeatedly.
        """
        self._read(lambda connection: self.backfill.check_host(connection, apply=False))
        said = self._read(lambda connection: _Ledger.read(connection, run), whole=self.full, one_moment=True)
        stretches = self._look(said.run)
        missing = _others((each.missing for each in stretches), said.quarantined)
        recounted = list(zip(said.claims, self._recount(said.claims), strict=True))
        return Verification(
            missing=missing,
            arrived=sum(each.arrived for each in stretches),
            quarantined=len(said.quarantined),
            found=_found(recounted),
            contradictions=(
                *_contradictions(said.run, said.claims, self.backfill.classes, len(said.quarantined)),
                *_false_claims(recounted),
            ),
            looked_at=sum(each.looked_at for each in stretches),
            unresolved={
                name: _others((each.unresolved[name] for each in stretches), said.quarantined)
                for name in self.backfill.unresolved
            },
            waiting=sum(each.waiting for each in stretches),
            left_alone=_others((each.left_alone for each in stretches), said.quarantined),
            hidden=self._hidden(said.run, missing) if self.full else (),
            invalid=_others((each.invalid for each in stretches), said.quarantined),
            road=self._road(said.run),
        )

    def _road(self, run: Run) -> Road:
        """Return how far the run's items have come. The read takes longer the more jobs there are."""
        outcome = self._read(lambda connection: self.backfill.outcome(connection, run), statement_ms=_FULL_STATEMENT_MS)
        return Road.of(self.backfill, run, outcome)

    def _hidden(self, run: Run, missing: Sequence[str]) -> tuple[str, ...]:
        """Return those of these items that the indexes don't show as missing."""
        seen = {item for stretch in self._look_by_index(run) for item in stretch.missing} if missing else ()
        return tuple(item for item in missing if item not in seen)

    def _look(self, run: Run) -> list[Stretch]:
        """Examine the range each lane has passed."""
        return self._look_fully(run) if self.full else self._look_by_index(run)

    def _look_by_index(self, run: Run) -> list[Stretch]:
        context = PageContext(self.backfill.with_defaults(run.parameters.options), run.started_at)
        found: list[Stretch] = []
        for passed in _passed(run):
            bounds: Bounds | None = passed
            while bounds is not None:
                window = Window(bounds, PAGE_ROWS, PAGE_ROWS)
                stretch = self._read(partial(self.backfill.verify, window=window, context=context))
                found.append(stretch)
                bounds = None if stretch.cursor == bounds.upper else Bounds(stretch.cursor, bounds.upper)
        return found

    def _look_fully(self, run: Run) -> list[Stretch]:
        """Examine all ranges in one statement, by sequential scans, which may take up to a day."""
        context = PageContext(self.backfill.with_defaults(run.parameters.options), run.started_at)
        passed = _passed(run)
        if not passed:
            return []
        return [self._read(lambda connection: self.backfill.verify_full(connection, passed, context), whole=True)]

    def _recount(self, claims: Sequence[PageClaim]) -> Sequence[dict[str, int]]:
        """Count the traces of these pages in the database."""
        if self.full:
            return self._read(lambda connection: self.backfill.recount_full(connection, claims), whole=True)
        return [self._read(partial(self.backfill.recount, claim=claim)) for claim in claims]

    def _read(
        self,
        ask: Callable[[Connection], T],
        *,
        whole: bool = False,
        one_moment: bool = False,
        statement_ms: int | None = None,
    ) -> T:
        """Read in a read-only transaction, and retry if a standby cancels it.

        Args:
            ask: the read.
            whole: it reads whole tables instead of indexes, however long that takes.
            one_moment: all its statements share one snapshot.
            statement_ms: the time-out of its statements; None: the usual one, or that of whole tables.
        """
        longest = statement_ms or (_FULL_STATEMENT_MS if whole else self.statement_ms)
        for _ in range(_ATTEMPTS):
            try:
                with self.engine.begin() as connection:
                    if one_moment:
                        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    begin_read_only(connection, statement_ms=longest)
                    if whole:
                        connection.execute(statement(load_sql("backfill_tasks.engine", "sql/without_indexes.sql")))
                    return ask(connection)
            except DBAPIError as error:
                if not is_recovery_conflict(error):
                    raise
        raise UnverifiedError(
            f"NOT VERIFIED: the standby cancelled the same read {_ATTEMPTS} times, because it conflicted with replay."
            " Set hot_standby_feedback = on there, or raise its max_standby_streaming_delay, and type the command again"
        )


@dataclass(frozen=True)
class _Ledger:
    """The ledger's record of a run, from one snapshot: pages and retries may continue during the verification."""

    run: Run
    claims: Sequence[PageClaim]
    quarantined: Collection[str]

    @classmethod
    def read(cls, connection: Connection, run: Run) -> "_Ledger":
        return cls(
            ledger.read_run(connection, run.id) or run,
            ledger.claims(connection, run.id),
            {each.item for each in ledger.quarantined(connection, run.id, most=None)},
        )


def _passed(run: Run) -> list[Bounds]:
    return [Bounds(lane.bounds.lower, lane.cursor) for lane in run.lanes if lane.cursor is not None]


def _others(stretches: Iterable[Iterable[str]], quarantined: Collection[str]) -> tuple[str, ...]:
    """Return the ids of all stretches that are not in quarantine."""
    return tuple(item for items in stretches for item in items if item not in quarantined)


def _found(recounted: Sequence[tuple[PageClaim, dict[str, int]]]) -> dict[str, tuple[int, int]]:
    """Return for each class the pages' count and the number of these rows there now.

    Rows in excess of a page's count belong to pages with the same time, or prove a false claim.
    """
    counted: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for claim, counts in recounted:
        for name, number in counts.items():
            said = claim.counts.get(name, 0)
            counted[name] += said
            there[name] += min(number, said) if claim.beside else number
    return {name: (counted[name], there[name]) for name in counted}


def _false_claims(recounted: Sequence[tuple[PageClaim, dict[str, int]]]) -> Iterator[str]:
    for claim, counts in recounted:
        for name, there in counts.items():
            if there > claim.most(name):
                said = claim.counts.get(name, 0)
                page = f"lane {claim.lane} page {claim.page}"
                yield f"{page}: the ledger counts {said} {name}, but the database has {there}"


def _contradictions(run: Run, claims: Sequence[PageClaim], classes: Iterable[str], quarantined: int) -> Iterator[str]:
    """Yield the contradictions between pages, lanes and quarantine."""
    for lane in run.lanes:
        pages = [claim for claim in claims if claim.lane == lane.number]
        totals: Counter[str] = Counter()
        position = lane.bounds.lower
        for claim in pages:
            if claim.lower != position:
                page = f"lane {lane.number} page {claim.page}"
                yield f"{page} starts after {claim.lower}, but the last ended at {position}"
            handled = sum(claim.counts.get(name, 0) for name in (*classes, "quarantined"))
            if handled != claim.counts.get("read", 0):
                yield f"lane {lane.number} page {claim.page}: its classes don't add up to the number read"
            position = claim.cursor
            totals.update(claim.counts)
        if lane.cursor is not None and lane.cursor != position:
            yield f"lane {lane.number} is at {lane.cursor}, but its last page ended at {position}"
        for name in {*totals, *lane.counts}:
            if totals[name] != lane.counts.get(name, 0):
                yield f"lane {lane.number} counts {lane.counts.get(name, 0)} {name}, but its pages {totals[name]}"
    counted = run.counts.get("quarantined", 0)
    if counted != quarantined:
        yield f"the lanes count {counted} quarantined, but {quarantined} are in quarantine"
