"""The results: an 80-column table for readers, JSON for programs."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_HEAD = ("", "target", "measured", "spread", "")


@dataclass(frozen=True)
class Line:
    """One figure, measured several times; the median counts.

    Attributes:
        what: the label in the table.
        values: the measurements.
        target: what the median must reach; None: no target.
        better: the side of the target on which the median must be.
        unit: the unit of the values, printed after them.
    """

    what: str
    values: Sequence[float]
    target: float | None = None
    better: Literal["more", "less"] = "more"
    unit: str = "x"

    @property
    def median(self) -> float:
        """The median of the measurements."""
        return statistics.median(self.values)

    @property
    def ok(self) -> bool | None:
        """Whether the target is reached; None if there is none."""
        if self.target is None:
            return None
        return self.median >= self.target if self.better == "more" else self.median <= self.target

    def as_json(self) -> dict[str, Any]:
        """Return the line with all its measurements."""
        return {
            "what": self.what,
            "unit": self.unit,
            "target": self.target,
            "better": self.better,
            "median": self.median,
            "values": list(self.values),
            "ok": self.ok,
        }


def table(parts: Mapping[str, Sequence[Line]]) -> str:
    """Return all lines, part by part."""
    rows = [_row(*_HEAD), "-" * 80]
    for title, lines in parts.items():
        rows += [title, *(_format(line) for line in lines), ""]
    return "\n".join(rows).rstrip()


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    return {"cpus": os.cpu_count(), "system": platform.platform(terse=True), "python": platform.python_version()}


def missed(parts: Iterable[Sequence[Line]]) -> int:
    """Return how many targets were missed."""
    return sum(line.ok is False for lines in parts for line in lines)


def _format(line: Line) -> str:
    sign = ">=" if line.better == "more" else "<="
    target = "" if line.target is None else f"{sign} {line.target:g}{_unit(line)}"
    spread = f"{_number(min(line.values))} .. {_number(max(line.values))}" if len(line.values) > 1 else ""
    verdict = {True: "ok", False: "MISS", None: ""}[line.ok]
    return _row(f"  {line.what}", target, f"{_number(line.median)}{_unit(line)}", spread, verdict)


def _row(what: str, target: str, measured: str, spread: str, verdict: str) -> str:
    return f"{what:<37}{target:>10}{measured:>12}{spread:>16} {verdict:>4}".rstrip()


def _unit(line: Line) -> str:
    return line.unit if line.unit == "x" else f" {line.unit}"


def _number(value: float) -> str:
    if value >= 100:  # noqa: PLR2004  decimals would add nothing
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004
