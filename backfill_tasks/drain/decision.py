"""What the drain does next: a pure function of its record and of what was just measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backfill_tasks.drain.answers import Answer
from backfill_tasks.drain.ledger import Drain, State
from backfill_tasks.engine.contract import Backlog

#: While the drain is paused, one call in so many seconds finds out whether the host is healthy again: no more than the
#: host's own cron does. Without it, a failure rate would never change, and a host whose cron has stopped would keep its
#: live jobs waiting, and the drain paused, for good.
PROBE_SECONDS = 60.0

#: A pause ends only below this share of the limit that it began above, so that the drain doesn't flap.
_RESUME_SHARE = 0.5

#: A failure rate of fewer jobs than this says nothing.
_FEWEST_JOBS = 10

#: The reasons for a pause that the host's health gives, and that its health ends.
_LIVE, _FAILING = "live_wait", "failure_rate"


@dataclass(frozen=True)
class Seen:
    """What was measured just now.

    Attributes:
        next_due_seconds: in how many seconds our first waiting job comes due; 0 or less: it is due; None: none waits.
        is_running: whether the host is at work on one.
        is_enqueuing: whether a run that enqueues jobs is running.
        live_wait_seconds: for how long the oldest live job has been due; None: none is.
    """

    next_due_seconds: float | None
    is_running: bool
    is_enqueuing: bool
    live_wait_seconds: float | None

    @classmethod
    def of(cls, backlogs: Sequence[Backlog], *, is_enqueuing: bool) -> "Seen":
        """Return what these backlogs mean together."""
        next_due = [each.next_due_seconds for each in backlogs if each.next_due_seconds is not None]
        waits = [each.live_wait_seconds for each in backlogs if each.live_wait_seconds is not None]
        return cls(
            next_due_seconds=min(next_due, default=None),
            is_running=any(each.is_running for each in backlogs),
            is_enqueuing=is_enqueuing,
            live_wait_seconds=max(waits, default=None),
        )

    @property
    def is_due(self) -> bool:
        """Whether a job of ours is due."""
        return self.next_due_seconds is not None and self.next_due_seconds <= 0

    @property
    def is_wanted(self) -> bool:
        """Whether a call helps us: a job of ours is due, or live jobs that the host doesn't take hold back a run."""
        waited = self.live_wait_seconds or 0.0
        return self.is_due or (self.is_enqueuing and waited > PROBE_SECONDS)

    @property
    def is_done(self) -> bool:
        """Whether nothing of ours is left to be done."""
        return self.next_due_seconds is None and not (self.is_running or self.is_enqueuing)


@dataclass(frozen=True)
class Decision:
    """The next state and why, and what to do about it.

    Attributes:
        state, kind, reason: see `Drain`.
        calls: whether to start a call now.
        every: the least time from this call to the next one, in seconds.
        wait_seconds: the least time until a call starts.
        judges_anew: whether the failure rate is measured on calls from now on only.
    """

    state: State
    kind: str
    reason: str | None = None
    calls: bool = False
    every: float = 0.0
    wait_seconds: float = 0.0
    judges_anew: bool = False


def decide(drain: Drain, seen: Seen, *, own: int) -> Decision:
    """Return what an active drain does next. `own`: how many calls this worker has in flight.

    A call that outlasts its time-out because the machine is busy no longer counts in the ledger, but it does here.
    """
    drain = replace(drain, in_flight=max(drain.in_flight, own))
    unhealthy = _unhealthy(drain, seen)
    if unhealthy is not None:
        return _paused(drain, seen, *unhealthy)
    if not seen.is_wanted:
        return _nothing_due(drain, seen)
    if drain.failures and drain.until_next > 0:
        return _backing_off(drain)
    most = 1 if drain.failures else drain.orders.parallel
    if drain.in_flight >= most:
        if not own:
            return Decision("waiting", "calls_left_behind", _left_behind(drain.in_flight))
        return Decision("calling", "due", None)
    # The end of a pause ends the wait for its next probe.
    resumes = is_for_health(drain.state, drain.kind) and not drain.failures
    return Decision("calling", "due", calls=resumes or drain.until_next <= 0, every=drain.orders.every)


def is_for_health(state: State, kind: str) -> bool:
    """Return whether the drain is paused for the host's health, and goes on by itself once that is good again."""
    return state == "paused" and kind in (_LIVE, _FAILING)


def verdict(answer: Answer) -> Decision | None:
    """Return how an answer ends the drain; None: it doesn't."""
    advice = _ADVICE.get(answer.result)
    if advice is None:
        return None
    return Decision("stopped", answer.result.replace(" ", "_"), advice.format(shown=answer.shown))


def _unhealthy(drain: Drain, seen: Seen) -> tuple[str, str] | None:
    """Return why the drain must pause, or stay paused: the kind and the reason."""
    is_paused = is_for_health(drain.state, drain.kind)
    share = _RESUME_SHARE if is_paused else 1.0
    stays = is_paused and drain.kind == _FAILING
    return _live_wait(drain.orders.max_live_wait, share, seen) or _failing(drain, share, stays=stays)


def _live_wait(most: float, share: float, seen: Seen) -> tuple[str, str] | None:
    wait = seen.live_wait_seconds
    if not most or wait is None or wait <= most * share:
        return None
    limit = f"over {most:g} s" if wait > most else f"and the drain goes on at {most * share:g} s"
    return _LIVE, f"a live job has waited for {wait:,.0f} s, {limit}"


def _failing(drain: Drain, share: float, *, stays: bool) -> tuple[str, str] | None:
    """Judge the failure rate. `stays`: the drain is paused for it, and too few jobs since mean that it stays so."""
    most = drain.orders.max_failure_rate
    rate = drain.failure_rate
    if most is None:
        return None
    if rate is None or drain.judged_jobs < _FEWEST_JOBS:
        return (_FAILING, drain.reason or "") if stays else None
    if rate <= most * share:
        return None
    limit = f"over {most:.0%}" if rate > most else f"and the drain goes on at {most * share:.0%}"
    return _FAILING, f"{drain.judged_spoiled:,} of the last {drain.judged_jobs:,} jobs failed ({rate:.0%}), {limit}"


def _paused(drain: Drain, seen: Seen, kind: str, reason: str) -> Decision:
    """Return the pause; a probe is made where something is due, and nothing in flight."""
    begins = not is_for_health(drain.state, drain.kind)
    # A drain that has just been started has made no call yet: it may probe at once.
    wait_seconds = PROBE_SECONDS if begins and drain.kind != "started" else 0.0
    probes = not begins and seen.is_wanted and drain.until_next <= 0 and not drain.in_flight
    return Decision(
        "paused",
        kind,
        reason,
        calls=probes,
        every=PROBE_SECONDS,
        wait_seconds=wait_seconds,
        judges_anew=begins,
    )


def _backing_off(drain: Drain) -> Decision:
    times = "" if drain.failures == 1 else f", {drain.failures:,} times in a row"
    if drain.last is None:
        return Decision("backing off", "failed", f"the last call failed{times}")
    said = f"the last call failed{times}: {drain.last.result}: {drain.last.shown}"
    return Decision("backing off", drain.last.result.replace(" ", "_"), said)


def _nothing_due(drain: Drain, seen: Seen) -> Decision:
    if seen.is_done and drain.orders.until_done and not drain.in_flight:
        return Decision("stopped", "done", "no job of ours waits or is at work")
    if seen.next_due_seconds is None:
        return Decision("waiting", "nothing_due", "no job of ours waits")
    return Decision("waiting", "nothing_due", "no job of ours is due yet")


def _left_behind(in_flight: int) -> str:
    return (
        f"the host may still be at work on {in_flight:,} call{'s' * (in_flight != 1)} of a worker that is gone: no new"
        " one starts until it must have ended"
    )


#: What an operator must do about an answer that ends the drain, by its result.
_ADVICE = {
    "unauthorized": (
        "the host refuses the secret ({shown}): set BACKFILL_CRON_SECRET or BACKFILL_CRON_SECRET_FILE, where the"
        " workers run, to the host's CRON_SECRET, restart them, and start the drain again"
    ),
    "not found": (
        "the host has no such route ({shown}): start the drain again with the URL of its cron route, such as"
        " https://host/api/cron/background-jobs"
    ),
    "redirected": (
        "the URL leads elsewhere ({shown}), where the secret isn't sent: start the drain again with the URL of the cron"
        " route itself"
    ),
    "refused": (
        "the host refuses the call ({shown}): start the drain again once the URL is that of its cron route, and the"
        " host accepts GET there"
    ),
    "other host": (
        "the worker may not send the secret there ({shown}): start the drain again with a URL of that host, or change"
        " BACKFILL_CRON_HOST where the workers run, and restart them"
    ),
    "dispatched": (
        "the host only dispatches an event ({shown}), and an event service works the jobs: more calls change nothing."
        " Raise the concurrency of the host's function there, or have this route work inline; the run goes on at the"
        " service's pace"
    ),
}
