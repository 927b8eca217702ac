"""Following a run: live progress on a terminal, a line now and then elsewhere. Ctrl-C detaches."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backfill_tasks.cli.context import say
from backfill_tasks.cli.render.lanes import is_still
from backfill_tasks.cli.render.progress import Speed, progress_lines, screen_head, screen_lines
from backfill_tasks.cli.signals import Stopped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.escaping import visible
from backfill_tasks.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType

_LOOK_SECONDS = 0.25

#: Seconds between two lines of a run that moves, and of one that waits; a new reason of a stalled lane comes sooner.
_LINE_SECONDS, _WAITING_LINE_SECONDS, _NEW_REASON_SECONDS = 10.0, 60.0, 2.0

Show = Callable[[Snapshot], None]


class Detached(Exception):  # noqa: N818  not an error: the operator asked for it
    """The operator or a signal asked this process to stop watching; the run continues."""


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
def display() -> Iterator[Show]:
    """Show snapshots of a run: redrawn in place on a terminal, otherwise a line now and then."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # noqa: PLC0415  only a terminal needs rich
    from rich.live import Live  # noqa: PLC0415

    speed = Speed()
    console = Console(file=sys.__stderr__, highlight=False)
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield lambda seen: live.update(_screen(seen, speed.of(seen.run)))


class _Lines:
    """Prints a run's progress as plain lines: every 10 s while pages are done, once a minute while the run waits."""

    def __init__(self) -> None:
        self._said_at, self._pages = time.monotonic(), -1
        self._kinds: set[tuple[int, str]] = set()
        self._goes_on = True

    def __call__(self, seen: Snapshot) -> None:
        """Print the progress if it is time to."""
        run, kinds = seen.run, _kinds(seen.run)
        seconds = _LINE_SECONDS if run.pages > self._pages else _WAITING_LINE_SECONDS
        if kinds - self._kinds:
            seconds = _NEW_REASON_SECONDS
        # A run that isn't followed beyond its end has one snapshot after it, and the summary comes next.
        goes_on, self._goes_on = self._goes_on, run.state == "running"
        if time.monotonic() - self._said_at >= seconds and (run.state == "running" or not goes_on):
            self._said_at, self._pages, self._kinds = time.monotonic(), run.pages, kinds
            say("\n".join(progress_lines(seen)))


def _kinds(run: Run) -> set[tuple[int, str]]:
    """Return each lane that has been still long enough to need a reason, with its kind of reason."""
    return {(lane.number, lane.reason_kind) for lane in run.lanes if lane.reason_kind and is_still(run, lane)}


def _screen(seen: Snapshot, rate: float | None) -> "RenderableType":
    """Return a run as progress bars above its speed, counts and lanes."""
    from rich.text import Text  # noqa: PLC0415  only a terminal needs rich

    return Text(visible("\n".join([*screen_head(seen), *screen_lines(seen, rate)])))
