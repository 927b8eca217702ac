"""The gate's answers: a page is admitted, or denied for a reason."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Denied:
    """The page may not start now, and why.

    `wait`: ask again later. `budget`: the run's budget is used up. `inactive`: the run is no longer running. `kind`
    names the cause in one or two constant words; `reason` includes the measured values. `seconds`: when to ask again,
    at the latest; None: whenever.
    """

    why: Literal["wait", "budget", "inactive"]
    reason: str = ""
    kind: str = ""
    seconds: float | None = None
