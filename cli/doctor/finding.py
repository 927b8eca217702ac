"""What a check found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from backfill_tasks.cli.context import Session


@dataclass(frozen=True)
class Finding:
    """What one check found. "WRONG": a run would not work. `advice`: what to do, where it is not fine."""

    verdict: Literal["fine", "look", "WRONG"]
    what: str
    advice: str = ""


Check = Callable[[Session], Iterable[Finding]]
