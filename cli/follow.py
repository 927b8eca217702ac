"""Following a run to its end: live progress, or a line now and then where there is no terminal. Ctrl-C detaches."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.backfill import Backfill
from backfill_tasks.engine.database import is_transient
from backfill_tasks.engine.model import Run
from cli import render
from cli.session import say

_LOOK_SECONDS = 0.25
_LINE_SECONDS = 10.0
_WAITING_LINE_SECONDS = 60.0


class Detached(Exception):  # noqa: N818  not an error: the operator's wish
    """The operator, or a signal, asked this process to stop looking; the run goes on."""


def follow(
    backfill: Backfill,
    read: Callable[[], Run],
    stopped: threading.Event,
    *,
    each: Callable[[Run], None] = lambda _: None,
) -> Run:
    """Show a run until it is no longer running, and answer how it ended.

    A database that does not answer for a while is waited for: it is the run that matters, not this look at it.

    Args:
        backfill: what the run walks.
        read: asks how it stands.
        stopped: ends the look, not the run; see `signals`.
        each: called with every reading, the last included.

    Raises:
        Detached: `stopped` was set.
    """
    away = False
    with _display(backfill) as show:
        while True:
            try:
                run = read()
            except DBAPIError as error:
                if not is_transient(error):
                    raise
                if not away:
                    say("The database does not answer; the run goes on. Looking again.")
                away = True
            else:
                away = False
                each(run)
                show(run)
                if run.state != "running":
                    return run
            if stopped.wait(_LOOK_SECONDS):
                raise Detached


@contextmanager
def signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set in place of ending the process, so that nothing is cut short."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(backfill: Backfill) -> Iterator[Callable[[Run], None]]:
    if sys.stderr.isatty():
        console = Console(stderr=True, highlight=False)
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            yield lambda run: live.update(Text("\n".join(_screen(backfill, run))))
        return
    said_at, pages = time.monotonic(), -1

    def line(run: Run) -> None:
        nonlocal said_at, pages
        # A run that waits, for hours if it must, says so once a minute.
        seconds = _LINE_SECONDS if run.pages > pages else _WAITING_LINE_SECONDS
        if time.monotonic() - said_at >= seconds and run.state == "running":
            said_at, pages = time.monotonic(), run.pages
            say("\n".join([render.progress(backfill, run), *render.troubles(run)]))

    yield line


def _screen(backfill: Backfill, run: Run) -> list[str]:
    return [_bar(run), *render.counts(backfill, run), *render.lanes(run), *render.troubles(run)]


def _bar(run: Run) -> str:
    """The run as a bar, as far as it is known how much there is."""
    read = run.counts.get("read", 0)
    rate = f"{run.leads_per_second:,.0f}/s"
    if not run.expected:
        return f"Run {run.id} · {run.state} · {render.duration(run.seconds)} · {rate}"
    share = min(1.0, read / run.expected)
    left = f", {render.duration(run.seconds / share - run.seconds)} left" if 0 < share < 1 else ""
    filled = round(24 * share)
    return f"Run {run.id} [{'#' * filled}{'.' * (24 - filled)}] {100 * share:.0f}% · {rate}{left}"
