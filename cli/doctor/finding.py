"""The result of a check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from backfill_tasks.cli.context import CommandContext


@dataclass(frozen=True)
class Finding:
    """One result of a check. "WRONG" means that a run would fail or wait; `advice` is the fix, unless it is fine."""

    verdict: Literal["fine", "look", "WRONG"]
    what: str
    advice: str = ""


Check = Callable[[CommandContext], Iterable[Finding]]
