"""The Celery app with a saboteur that kills or suspends a worker between two steps of a page.

For tests only: `celery -A saboteur worker`, with this folder on that worker's PYTHONPATH. The folder SABOTAGE has the
plans, one file per step, written by `stage.Sabotage`. A process that carries out a plan first renames it, so that only
one process does; a plan that says `always` stays.
"""

import functools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine import ledger
from backfill_tasks.engine.chain import Chain, Step
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.model import PageMessage
from backfill_tasks.engine.page.transaction import Pages
from backfill_tasks.engine.watchdog import Watchdog
from backfill_tasks.worker import tasks
from backfill_tasks.worker.app import app

__all__ = ["app"]

_FOLDER = Path(os.environ["SABOTAGE"])
_LONGEST_BLOCK_SECONDS = 60.0

#: Each step, with the function that starts or ends at that moment: a page's steps in order, then the watchdog's.
_STEPS: tuple[tuple[str, Any, str, str], ...] = (
    ("taken up", Pages, "do", "before"),
    ("lane locked", ledger, "fence", "after"),
    ("begin counted", LiveCursors, "begin", "after"),
    ("page done", LeadScoring, "page", "after"),
    ("page recorded", ledger, "record", "after"),
    ("page committed", Pages, "do", "after"),
    ("next sent", LiveCursors, "advance", "before"),
    ("cursor moved", LiveCursors, "advance", "after"),
    ("lane ended", Chain, "finish", "before"),
    ("run ended", LiveCursors, "forget", "before"),
    ("cursors forgotten", LiveCursors, "forget", "after"),
    ("stalled lane found", tasks, "messages_on_their_way", "after"),
    ("watchdog done", Watchdog, "look", "after"),
)

_at_work: dict[str, int] = {}


def _reach(step: str) -> None:
    """Carry out the plan for a step, if there is one for the page in flight."""
    plan = _FOLDER / f"{step}.plan"
    try:
        wanted = json.loads(plan.read_text())
        if any(wanted[name] not in {None, _at_work.get(name)} for name in ("lane", "page")):
            return
        if not wanted["always"]:
            plan.rename(plan.with_suffix(".reached"))
    except FileNotFoundError:  # no plan, or another process has it
        return
    match wanted["action"]:
        case "kill child":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill worker":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        case "block":
            _block(plan.with_suffix(".reached"))


def _block(until_gone: Path) -> None:
    deadline = time.monotonic() + _LONGEST_BLOCK_SECONDS
    while until_gone.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _watch(step: str, owner: Any, name: str, when: str) -> None:
    """Reach a step before or after each call of a function."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def watched(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            _reach(step)
        answer = original(*arguments, **named)
        if when == "after":
            _reach(step)
        return answer

    setattr(owner, name, watched)


def _watch_the_page_at_work() -> None:
    original = Chain.step

    @functools.wraps(original)
    def watched(self: Chain, message: PageMessage, *arguments: Any) -> Step:
        _at_work.update(lane=message.lane, page=message.page)
        try:
            return original(self, message, *arguments)
        finally:
            _at_work.clear()

    Chain.step = watched  # type: ignore[method-assign]


_watch_the_page_at_work()
for _step in _STEPS:
    _watch(*_step)
