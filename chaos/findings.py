"""The findings of a schedule: violations, reasons given for stalled lanes, and recovery times."""

import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from chaos.schedule import Kind

RECOVERY_SECONDS = 30.0
SILENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise.

    Attributes:
        rule: the promise.
        detail: what was seen.
        kinds: the kinds of faults active at the time, or of the last one before. If faults overlapped, or followed
            each other too fast to tell apart, all of them are named.
    """

    rule: str
    detail: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How many seconds after a fault's end every lane had moved. Not recorded if the next fault came first."""

    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason that `status` gave for a stalled lane, in words and as a kind, and the faults active at the time."""

    reason: str
    reason_kind: str | None
    kinds: tuple[str, ...]


@dataclass
class _Span:
    """When a fault was active, by the monotonic clock; while it is active, its end is unknown."""

    kind: str
    begun: float
    ended: float | None = None


@dataclass
class Findings:
    """Collects the findings of several threads while a schedule plays."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    injected: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _spans: list[_Span] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, kind: Kind) -> None:
        """Record that a fault begins."""
        with self._lock:
            self._spans.append(_Span(kind.name, time.monotonic()))
            self.injected.append(kind.name)

    def ends(self, kind: Kind) -> None:
        """Record that a fault ends."""
        with self._lock:
            next(each for each in self._spans if each.kind == kind.name and each.ended is None).ended = time.monotonic()

    def last_ended(self) -> str:
        """Return the kind of the fault that ended last."""
        with self._lock:
            ended = [(each.ended, each.kind) for each in self._spans if each.ended is not None]
            return max(ended)[1] if ended else "no fault"

    def suspects(self, since: float) -> tuple[str, ...]:
        """Return the kinds of the faults active after a moment, or of the last one before it."""
        with self._lock:
            meanwhile = [each.kind for each in self._spans if each.ended is None or each.ended > since]
        return tuple(dict.fromkeys(meanwhile)) or ((self.last_ended(),) if self.injected else ())

    def violation(self, rule: str, detail: str, *, since: float | None = None) -> None:
        """Record a broken promise; repeated words count once. `since`: when the trouble began, if it lasted."""
        suspects = self.suspects(time.monotonic() if since is None else since)
        found = Violation(rule, " ".join(detail.split())[:300], suspects)
        with self._lock:
            if (found.rule, found.detail) not in {(each.rule, each.detail) for each in self.violations}:
                self.violations.append(found)

    def reason(self, reason: str, reason_kind: str | None, *, since: float) -> None:
        """Record the reason of a lane that has been stalled since a moment; repeated words count once."""
        heard = Reason(reason, reason_kind, self.suspects(since))
        with self._lock:
            if heard not in self.reasons:
                self.reasons.append(heard)

    def recovery(self, kind: str, seconds: float) -> None:
        """Record how long the fleet took to recover."""
        with self._lock:
            self.recoveries.append(Recovery(kind, round(seconds, 1)))

    def as_json(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "violations": [asdict(each) for each in self.violations],
            "recoveries": [asdict(each) for each in self.recoveries],
            "reasons": [asdict(each) for each in self.reasons],
            "injected": self.injected,
            "skipped": self.skipped,
        }
