"""The report of a campaign: a verdict per schedule and a table by kind of fault."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from chaos.findings import Findings
from chaos.schedule import KINDS

_HEAD = f"{'fault':<31} {'times':>5} {'median':>6} {'p90':>5} {'max':>5} {'silent':>6} {'ended':>5} {'wrong':>5}"

#: The rules with a column of their own: a lane stalled without a reason, and a program ended.
_SILENT, _ENDED = "silence", "process ended by itself"


def verdict(findings: Findings, *, replay: str) -> list[str]:
    """Return the lines about one schedule; `replay` is the command that replays it."""
    number = len(findings.violations)
    outcome = "no violation" if not number else f"{number} violation{'s' if number > 1 else ''}"
    lines = [f"seed {findings.seed}: {len(findings.injected)} faults in {findings.seconds:.0f} s, {outcome}"]
    for each in findings.violations:
        lines.append(f"  {each.rule}: {each.detail}")
        lines.append(f"      during {', '.join(each.kinds) or 'no fault'}")
    if number:
        lines.append(f"  replay it: {replay}")
    return lines


def table(campaign: Sequence[Findings]) -> list[str]:
    """Return one row per kind of fault.

    The columns: how often it was played; the seconds until every lane moved, unless another fault came first; and,
    while it was active, the lanes that stalled without a reason, the programs that ended, and the other violations.
    """
    injected = Counter(kind for each in campaign for kind in each.injected)
    lines = [_HEAD, "-" * len(_HEAD)]
    for kind in (each.name for each in KINDS):
        if not injected[kind]:
            continue
        seconds = _seconds(campaign, kind)
        median, p90, longest = (_figure(share, seconds) for share in (0.5, 0.9, 1.0))
        rules = Counter(violation.rule for each in campaign for violation in each.violations if kind in violation.kinds)
        silent, ended = rules.pop(_SILENT, 0), rules.pop(_ENDED, 0)
        figures = f"{injected[kind]:>5} {median:>6} {p90:>5} {longest:>5} {silent:>6} {ended:>5} {rules.total():>5}"
        lines.append(f"{kind:<31} {figures}")
    return lines


def summary(campaign: Sequence[Findings], without: Iterable[str]) -> list[str]:
    """Return the closing lines of a campaign."""
    bad = [each.seed for each in campaign if each.violations]
    faults = sum(len(each.injected) for each in campaign)
    lines = [f"{len(campaign)} schedules, {faults} faults: {'no violation' if not bad else 'violations'}"]
    rules = Counter(violation.rule for each in campaign for violation in each.violations)
    lines += [f"  {number} x {rule}" for rule, number in rules.most_common()]
    if bad:
        lines.append(f"  seeds: {', '.join(map(str, bad))}")
    lines += [f"  {name}: not played, because this machine doesn't allow it" for name in without]
    return lines


def as_json(campaign: Sequence[Findings], without: Iterable[str]) -> dict[str, Any]:
    """Return the campaign as plain values."""
    return {"schedules": [each.as_json() for each in campaign], "not_played": sorted(without)}


def _seconds(campaign: Sequence[Findings], kind: str) -> list[float]:
    return sorted(each.seconds for findings in campaign for each in findings.recoveries if each.kind == kind)


def _figure(share: float, ordered: Sequence[float]) -> str:
    """Return a quantile, by nearest rank."""
    if not ordered:
        return "-"
    return f"{ordered[max(0, math.ceil(share * len(ordered)) - 1)]:.1f}"
