"""The drain as text."""

from collections.abc import Iterator
from datetime import datetime

from backfill_tasks.cli.render.events import event_lines
from backfill_tasks.cli.render.text import duration, wrapped
from backfill_tasks.drain.ledger import Drain
from backfill_tasks.drain.overview import Overview


def overview(seen: Overview) -> str:
    """Return the drain: its state and why, its orders, what has come of it, and its latest events."""
    if seen.drain is None:
        return "There has been no drain: `backfill drain --url URL` starts one."
    lines = [*_state(seen, seen.drain), "", *_orders(seen.drain), *_results(seen, seen.drain)]
    for each in seen.events:
        lines += ["", *event_lines(each)] if each is seen.events[0] else event_lines(each)
    return "\n".join(lines)


def _state(seen: Overview, drain: Drain) -> Iterator[str]:
    yield f"Drain · {drain.state} · for {_since(drain, drain.since)}"
    if drain.reason:
        yield wrapped(drain.reason, indent=2)
    yield from (wrapped(each, indent=2) for each in _meaning(drain))
    if seen.is_deserted:
        yield wrapped("No worker looks after it: start workers and beat.", indent=2)


def _since(drain: Drain, at: datetime) -> str:
    """Return the time since `at`: 0 if it is later than the start of the transaction that read the drain."""
    return duration(max(0.0, (drain.seen_at - at).total_seconds()))


def _meaning(drain: Drain) -> Iterator[str]:
    """Yield what the state means for the jobs, unless the reason says so."""
    match drain.state:
        case "paused" if drain.kind in ("live_wait", "failure_rate"):
            yield "It makes one call a minute meanwhile, and goes on by itself."
        case "backing off":
            yield "It tries again by itself. The host's cron goes on meanwhile."
        case "stopped" if drain.kind not in ("by_command", "done"):
            yield "The jobs wait for the host's cron, which does them at its own pace."


def _orders(drain: Drain) -> Iterator[str]:
    orders = drain.orders
    yield f"  url           {orders.url}"
    yield f"  pace          a call every {orders.every:g} s, at most {orders.parallel} in flight"
    failing = "not asked" if orders.max_failure_rate is None else f"{orders.max_failure_rate:.0%}"
    waiting = f"{orders.max_live_wait:g} s" if orders.max_live_wait else "not asked"
    yield f"  limits        failure rate {failing}, live wait {waiting}"
    if orders.until_done:
        yield "  ends          once no job of ours is left"
    yield f"  started       {drain.started_at:%Y-%m-%d %H:%M:%S} UTC by {drain.started_by}"


def _results(seen: Overview, drain: Drain) -> Iterator[str]:
    if drain.is_active:
        until = "now" if drain.until_next <= 0 else f"in {duration(drain.until_next)} at the earliest"
        yield f"  next call     {until}; {drain.in_flight} in flight"
    pace = "not yet known" if drain.per_minute is None else f"{drain.per_minute:,.1f} a minute lately"
    yield f"  jobs          {pace}"
    counts = [f"{count:,} {name}" for name, count in seen.jobs.items() if count]
    if counts:
        yield wrapped(", ".join(counts), indent=16)
    calls = ", ".join(f"{total.calls:,} {total.result}" for total in seen.totals) or "none"
    yield wrapped(calls, indent=16, first="  calls         ")
    if drain.failure_rate is not None:
        yield f"  failure rate  {drain.failure_rate:.0%} of the last {drain.judged_jobs:,} jobs"
    if drain.last is not None:
        yield wrapped(
            f"{_since(drain, drain.last.at)} ago: {drain.last.result}: {drain.last.shown}",
            indent=16,
            first="  last answer   ",
        )
