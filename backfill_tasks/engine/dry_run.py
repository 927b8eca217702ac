"""The dry run: a walk that counts what a run would do, read-only."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Engine

from backfill_tasks.engine import batch, ledger
from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.model import Lane, PageResult, Run, RunId, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.options import Parameters


@dataclass
class DryRun:
    """A dry run: counts every page of every lane with the selection that the run itself uses.

    It runs in this process, one thread per lane, in transactions that the server enforces as read-only. It uses neither
    the ledger nor Redis.
    """

    engine: Engine
    backfill: Backfill
    parameters: Parameters
    run: RunId
    lanes: tuple[Lane, ...]
    statement_ms: int
    single_batch: bool = False
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _stopped: threading.Event = field(default_factory=threading.Event)
    _walks: list[Future[None]] = field(default_factory=list)

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Walk all lanes while the block runs; on exit, stop each unfinished lane after its current page."""
        with ThreadPoolExecutor(max_workers=max(1, len(self.lanes))) as pool:
            self._walks = [pool.submit(self._walk_lane, index) for index in range(len(self.lanes))]
            try:
                yield
            finally:
                self._stopped.set()

    def read(self) -> Run:
        """Return the progress so far. Raises any exception a lane's walk has raised."""
        walked = all(walk.done() for walk in self._walks)
        for walk in self._walks:
            if walk.done():
                walk.result()
        done = all(lane.state == "done" for lane in self.lanes)
        read = sum(lane.counts.get("read", 0) for lane in self.lanes)
        now = datetime.now(UTC)
        return Run(
            id=self.run,
            mode="dry-run",
            state="running" if not walked else "complete" if done else "paused",
            reason=batch.reason({"read": read}) if walked and not done else None,
            parameters=self.parameters,
            single_batch=self.single_batch,
            started_at=self.started_at,
            finished_at=now if walked else None,
            seen_at=now,
            started_by=ledger.who(),
            ordinal=0,
            expected=None,
            lanes=self.lanes,
        )

    def _walk_lane(self, index: int) -> None:
        context = PageContext(self.parameters.options, self.started_at)
        while self.lanes[index].state == "running" and not self._stopped.is_set():
            lane = self.lanes[index]
            window = Window(lane.left, self.parameters.limit, PAGE_ROWS)
            with self.engine.begin() as connection:
                begin_read_only(connection, statement_ms=self.statement_ms)
                result = self.backfill.dry_run(connection, window, context)
            self._replace(index, _moved(lane, result))
            if self.single_batch and batch.ends_with(self.lanes[index].page, result.counts):
                break
            if self.lanes[index].state == "running":
                self._stopped.wait(self.parameters.page_delay_ms / 1000)

    def _replace(self, index: int, lane: Lane) -> None:
        self.lanes = (*self.lanes[:index], lane, *self.lanes[index + 1 :])


def _moved(lane: Lane, result: PageResult) -> Lane:
    counts = Counter(lane.counts)
    counts.update(result.counts)
    return replace(
        lane,
        cursor=result.cursor,
        page=lane.page + 1,
        state="done" if result.cursor == lane.bounds.upper else "running",
        counts=counts,
        moved_at=datetime.now(UTC),
    )
