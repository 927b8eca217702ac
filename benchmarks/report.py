"""What came out: a table of 80 columns for the reader, JSON for programs."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_HEAD = ("", "target", "measured", "spread", "")


@dataclass(frozen=True)
class Line:
    """One figure, measured several times; what counts is the median.

    Attributes:
        what: what was measured, as the table says it.
        values: the measurements.
        target: what the median has to reach; None: the figure is there to be known.
        better: on which side of the target the median has to be.
        unit: what the values are in, as it stands behind them.
    """

    what: str
    values: Sequence[float]
    target: float | None = None
    better: Literal["more", "less"] = "more"
    unit: str = "x"

    @property
    def median(self) -> float:
        """What counts."""
        return statistics.median(self.values)

    @property
    def ok(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.median >= self.target if self.better == "more" else self.median <= self.target

    def as_json(self) -> dict[str, Any]:
        """The line with all that was measured."""
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
    """All lines, part by part."""
    rows = [_row(*_HEAD), "-" * 80]
    for title, lines in parts.items():
        rows += [title, *(_format(line) for line in lines), ""]
    return "\n".join(rows).rstrip()


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {"cpus": os.cpu_count(), "system": platform.platform(terse=True), "python": platform.python_version()}


def missed(parts: Iterable[Sequence[Line]]) -> int:
    """How many targets were not reached."""
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
    if value >= 100:  # noqa: PLR2004  no decimals where they say nothing
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004
