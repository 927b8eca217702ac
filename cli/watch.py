"""Following a run: live progress on a terminal, a line now and then elsewhere. Ctrl-C detaches."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from backfill_tasks.cli import render
from backfill_tasks.cli.context import say
from backfill_tasks.cli.signals import Stopped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.escaping import visible
from backfill_tasks.snapshot import Snapshot

_LOOK_SECONDS = 0.25

#: The window over which a run's speed is measured, in seconds, and the least that gives a speed.
_SPEED_SECONDS, _ENOUGH_SECONDS = 60.0, 3.0

_LINE_SECONDS = 10.0
_WAITING_LINE_SECONDS = 60.0
_NEW_REASON_SECONDS = 2.0


class Detached(Exception):  # noqa: N818  not an error: the operator asked for it
    """The operator or a signal asked this process to stop watching; the run goes on."""


def follow_count(backfill: Backfill, read: Callable[[], Run], stopped: Stopped) -> Run:
    """Show a dry run until it ends, and return it.

    Raises:
        Detached: a signal came.
    """
    with display() as show:
        while True:
            run = read()
            show(Snapshot(run, backfill))
            if run.state != "running":
                return run
            if stopped.wait(_LOOK_SECONDS):
                raise Detached


@contextmanager
def display() -> Iterator[Callable[[Snapshot], None]]:
    """Show snapshots of a run: redrawn in place on a terminal, otherwise a line now and then."""
    speed = _Speed()
    if sys.stderr.isatty():
        console = Console(file=sys.__stderr__, highlight=False)
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            yield lambda seen: live.update(Text(visible("\n".join(_screen(seen, speed)))))
        return
    said_at, pages, kinds = time.monotonic(), -1, _kinds(None)

    def line(seen: Snapshot) -> None:
        nonlocal said_at, pages, kinds
        run = seen.run
        # A run may wait for hours: it says so once a minute. A new reason for a stalled lane is shown at once.
        seconds = _LINE_SECONDS if run.pages > pages else _WAITING_LINE_SECONDS
        if _kinds(run) - kinds:
            seconds = _NEW_REASON_SECONDS
        if time.monotonic() - said_at >= seconds and run.state == "running":
            said_at, pages, kinds = time.monotonic(), run.pages, _kinds(run)
            lines = [render.progress(seen.backfill, run), *render.troubles(run), *_limits(seen)]
            if seen.host is not None:
                lines.append(render.outcome_in_a_line(seen.backfill, run, seen.host))
            say("\n".join(lines))

    yield line


def _screen(seen: Snapshot, speed: "_Speed") -> list[str]:
    backfill, run = seen.backfill, seen.run
    lines = [*_bar(backfill, run, speed), *_limits(seen), *render.counts(backfill, run)]
    if seen.host is not None:
        lines += render.outcome(backfill, run, seen.host)
    return lines + render.lanes(run)


def _kinds(run: Run | None) -> set[tuple[int, str]]:
    """Return each lane that has been still long enough to need a reason, with its kind of reason."""
    if run is None:
        return set()
    return {(lane.number, lane.reason_kind) for lane in run.lanes if lane.reason_kind and render.is_still(run, lane)}


def _limits(seen: Snapshot) -> list[str]:
    """Return what limits the run just now: its pages' size, and the bound on jobs in the host's queue."""
    limits = (seen.small_pages, seen.bound.reason if seen.bound else None)
    return [render.wrapped(each, indent=2) for each in limits if each]


def _bar(backfill: Backfill, run: Run, speed: "_Speed") -> list[str]:
    """Return the run as a progress bar, if the total is known, above its speed."""
    read = run.counts.get("read", 0)
    rate = speed.of(run)
    left = "time left not yet known"
    if rate and run.expected:
        left = f"about {render.duration(max(0, run.expected - read) / rate)} left"
    head = f"Run {run.id} · {run.state}"
    if run.expected:
        share = min(1.0, read / run.expected)
        filled = round(24 * share)
        head = f"Run {run.id} [{'#' * filled}{'.' * (24 - filled)}] {100 * share:.0f}% · {run.state}"
    shown = "-" if rate is None else f"{rate:,.0f}"
    return [head, f"  {render.duration(run.seconds)} · {shown} {backfill.items}/s · {run.pages:,} pages · {left}"]


class _Speed:
    """How fast a run currently reads, measured over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, run: Run) -> float | None:
        """Return items per second; None until enough has been seen."""
        read = run.counts.get("read", 0)
        now = run.seen_at.timestamp()
        self._seen.append((now, read))
        while now - self._seen[0][0] > _SPEED_SECONDS:
            self._seen.popleft()
        began, before = self._seen[0]
        seconds = now - began
        return (read - before) / seconds if seconds >= _ENOUGH_SECONDS else None
