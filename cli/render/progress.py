"""A run in progress: on a terminal the whole screen, elsewhere a few lines."""

from collections import deque

from backfill_tasks.cli.render.counts import count_lines
from backfill_tasks.cli.render.lanes import lane_lines, trouble_lines
from backfill_tasks.cli.render.road import bar, bars, headline, percent, road_line, road_lines
from backfill_tasks.cli.render.text import counted, duration, wrapped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.snapshot import Snapshot

#: The window over which a run's speed is measured, in seconds, and the least that gives a speed.
_SPEED_SECONDS, _ENOUGH_SECONDS = 60.0, 3.0


class Speed:
    """A run's reading speed, measured over the last minute."""

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


def share_done(run: Run) -> float | None:
    """Return the share of the expected items that the run has read, up to 1; None if they weren't counted."""
    return min(1.0, run.counts.get("read", 0) / run.expected) if run.expected else None


def speed_line(backfill: Backfill, run: Run, rate: float | None) -> str:
    """Return a run's time so far, its speed in items per second, its pages and the time left."""
    left = "time left not yet known"
    if rate and run.expected:
        left = f"about {duration(max(0, run.expected - run.counts.get('read', 0)) / rate)} left"
    shown = "-" if rate is None else f"{rate:,.0f}"
    return f"  {duration(run.seconds)} · {shown} {backfill.items}/s · {counted(run.pages, 'pages')} · {left}"


def screen_head(seen: Snapshot) -> list[str]:
    """Return a run's id and state, and its progress bars."""
    run, share = seen.run, share_done(seen.run)
    head = f"Run {run.id} · {run.state}"
    if seen.road is not None:
        return [head, *bars(seen.backfill, seen.road)]
    return [head] if share is None else [head, f"counted  {bar(share)} {percent(share):>4}"]


def screen_lines(seen: Snapshot, rate: float | None) -> list[str]:
    """Return all that a terminal shows of a run below its progress bar."""
    backfill, run = seen.backfill, seen.run
    if run.state == "running":
        lines = [speed_line(backfill, run, rate), *_limits(seen), *count_lines(backfill, run)]
    else:
        lines = [*_standing(seen), *count_lines(backfill, run)]
    if seen.road is not None:
        lines += road_lines(backfill, run, seen.road, seen.forecast, brief=True)
    return [*lines, *lane_lines(run)] if run.state == "running" else lines


def progress_lines(seen: Snapshot) -> list[str]:
    """Return a run's progress in a few lines, for output that isn't a terminal."""
    lines = [progress_line(seen.backfill, seen.run), *trouble_lines(seen.run), *_limits(seen)]
    if seen.road is not None:
        lines += road_line(seen.backfill, seen.road, seen.forecast)
    return lines


def _standing(seen: Snapshot) -> list[str]:
    """Return where a run that has ended stands on its road."""
    return [wrapped(headline(seen.backfill, seen.road), indent=2)] if seen.road and seen.run.state == "complete" else []


def progress_line(backfill: Backfill, run: Run) -> str:
    """Return a run's progress on one line."""
    read = run.counts.get("read", 0)
    done = sum(lane.state == "done" for lane in run.lanes)
    of = f" of {run.expected:,} ({100 * read / run.expected:.0f}%)" if run.expected else f" {backfill.items}"
    rate = f"{run.items_per_second:,.0f}/s"
    return f"{run.state}: {read:,}{of} · {counted(run.pages, 'pages')} · {rate} · {done}/{len(run.lanes)} lanes"


def _limits(seen: Snapshot) -> list[str]:
    """Return what limits the run just now: its pages' size, and the bound on jobs in the host's queue."""
    limits = (seen.small_pages, seen.bound.reason if seen.bound else None)
    return [wrapped(each, indent=2) for each in limits if each]
