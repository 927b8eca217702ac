"""The rules: they derive from a lane and the facts the one reason why it doesn't move. No source is queried here.

A rule uses only what a source has reported. Where several reasons could apply, the most specific evidence wins: a
session that has locked the lane's row, then where the lane's message is, then which worker should take it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backfill_tasks.diagnosis.case import Case, named
from backfill_tasks.diagnosis.facts import DatabaseSession, Facts, LockOwner
from backfill_tasks.engine.model import Lane, Run
from backfill_tasks.settings import Settings, masked

#: Every kind of reason except those of pressure and pace, with its meaning; docs/reference/json.md lists them.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "paused": "the run is paused",
        "cancelled": "the run was cancelled",
        "failed": "the lane, or the run, has failed",
        "single_batch": "the lane isn't part of the single batch",
        "page_delay": "the delay after each page (`--page-delay-ms`)",
        "retry": "a transient error; the page is retried",
        "held": "the page is postponed, and the kind of reason couldn't be read",
        "page_at_work": "the page is running",
        "page_stuck": "the page's transaction is open and idle: its worker process is stopped or stuck",
        "lock_wait": "the page waits for a lock; the reason names the session that has it",
        "ledger_locked": "another session has locked the lane's row in the ledger",
        "no_worker": "no worker is online",
        "no_consumer": "workers are online, but none consumes this queue",
        "workers_frozen": "workers are connected and don't answer",
        "workers_busy": "no worker process is free",
        "worker_deaf": "a worker answers and has a free process, but takes no messages",
        "rate": "the page waits for the rate of all workers together",
        "queued": "the page's message is on its way to a worker",
        "message_lost": "the page's message is gone; the watchdog reseeds the lane",
        "no_watchdog": "the page's message is gone, and no watchdog runs",
        "redis_unreachable": "Redis doesn't answer",
        "redis_refuses_writes": "Redis refuses writes",
        "database_unreachable": "PostgreSQL accepts no connections",
        "database_read_only": "PostgreSQL accepts no writes",
        "unknown": "no known reason applies; the reason lists what was checked",
    }
)

#: A page's transaction that is idle for longer than this, in seconds, isn't just computing between two statements.
_IDLE_SECONDS = 2.0

#: What to do when Redis refuses a write, by the first word of its error.
_REFUSALS = {
    "READONLY": "REDIS_URL names a replica: point it at the primary, or wait for the failover to end",
    "OOM": "raise its maxmemory, or free memory",
    "MISCONF": "its last save to disk failed: free disk space",
    "NOREPLICAS": "too few of its replicas are connected: bring them back",
    "NOPERM": "this user may not write: give it the rights that docs/security.md lists",
}


@dataclass(frozen=True)
class Reason:
    """Why a lane doesn't move. `kind` never changes, for scripts and alerts; `text` is for the operator."""

    kind: str
    text: str


def of_an_inactive_run(run: Run) -> Reason:
    """Return the reason for every unfinished lane of a run that isn't running."""
    why = f"the run is {run.state}{f': {run.reason}' if run.reason else ''}"
    onward = "" if run.state in {"cancelled", "complete"} else f". `backfill resume {run.id}` continues it"
    return Reason(run.state, why + onward)


def of_a_held_lane(run: Run, lane: Lane, facts: Facts) -> Reason:
    """Return the ledger's reason for a lane whose next page is postponed."""
    if lane.reason is None:
        delay, left = run.parameters.page_delay_ms / 1000, _seconds_left(run, lane)
        return Reason("page_delay", f"waits {delay:g} s after each page (--page-delay-ms), {left:.0f} s left")
    kind = facts.database.holds.get((run.id, lane.number)) if facts.database else None
    return Reason((kind or "held").replace(" ", "_"), lane.reason)


def of_a_stalled_lane(run: Run, lane: Lane, facts: Facts, settings: Settings) -> Reason:
    """Return the reason for a lane that should move and doesn't; if none is found, it lists what was checked."""
    case = Case(run, lane, facts, settings)
    return next(reason for rule in _RULES for reason in rule(case))


def _of_its_transaction(case: Case) -> Iterator[Reason]:
    if case.lock_owner is None:
        return
    if not case.lock_owner.is_page:
        session = case.lock_owner.session
        yield Reason(
            "ledger_locked",
            f"its row in the ledger is locked by {named(session)}. No page of the lane can start until that"
            f" transaction ends. {_end(session)}",
        )
    else:
        yield from _of_its_page(case, case.lock_owner)


def _of_its_page(case: Case, lock_owner: LockOwner) -> Iterator[Reason]:
    session, limit = lock_owner.session, case.settings.statement_timeout_ms / 1000
    if lock_owner.blocker is not None:
        yield Reason(
            "lock_wait",
            f"its page waits for a lock of {named(lock_owner.blocker)}. The page gives up after"
            f" {case.settings.lock_timeout_ms / 1000:g} s and is retried. {_end(lock_owner.blocker)}",
        )
    elif not ((session.state or "").startswith("idle") and (session.seconds or 0) > _IDLE_SECONDS):
        yield Reason(
            "page_at_work",
            f"its page is running in the database ({named(session)}). Its statement times out after {limit:g} s",
        )
    elif not (case.broker.error or case.broker.refusal):  # otherwise the page waits for Redis
        yield Reason(
            "page_stuck",
            f"its page's transaction is open ({named(session)}), but its worker process is stopped or stuck. PostgreSQL"
            f" ends the transaction after {limit:g} s, and the page is retried."
            f" {case.silent}{case.reseeded}",
        )


def _of_redis(case: Case) -> Iterator[Reason]:
    if case.broker.error is not None:
        yield Reason(
            "redis_unreachable",
            f"Redis doesn't answer ({masked(case.settings.redis_url)}): {case.broker.error}. No page can be sent or"
            " taken. Start Redis, or correct REDIS_URL. The run then continues by itself",
        )
    elif case.broker.refusal is not None:
        advice = _REFUSALS.get(case.broker.refusal.split()[0], "`redis-cli info` says more")
        yield Reason(
            "redis_refuses_writes",
            f"Redis refuses writes: {case.broker.refusal}. No page can be sent or taken until it accepts writes."
            f" {advice[0].upper()}{advice[1:]}",
        )


def _of_no_worker(case: Case) -> Iterator[Reason]:
    fleet = case.fleet
    if fleet.error is None and not fleet.connected and not fleet.workers:
        yield Reason(
            "no_worker",
            f"no worker is online, and {case.place}. Start one: backfill worker{case.no_beat}",
        )
    elif fleet.workers and not case.consumers and not fleet.silent:
        name, view = next(iter(case.views.items()))
        others = ", ".join(view.queues) or "no queue"
        online = "1 worker is" if len(fleet.workers) == 1 else f"{len(fleet.workers)} workers are"
        yield Reason(
            "no_consumer",
            f"{online} online, but none consumes the queue {case.queue}: {name} consumes {others}. Start one that does:"
            f" backfill worker -Q {case.queue}",
        )


def _of_its_worker(case: Case) -> Iterator[Reason]:
    for name, view in case.views.items():
        if case.task in view.for_rate:
            yield _rate(case)
        elif case.task in view.later:
            yield from _of_the_database(case)
            yield Reason("retry", f"{name} retries its page in {view.later[case.task]:.0f} s")
        elif case.task in view.working:
            yield from _of_the_database(case)
            yield Reason(
                "page_at_work",
                f"{name} has been running its page for {view.working[case.task]:.0f} s without a transaction in the"
                " database: it is connecting, waiting for Redis, or stopped. Look at that worker's log",
            )
        elif case.task in view.waiting:
            yield Reason(
                "workers_busy", f"{name} has its page and no free process. The page starts when another one ends"
            )


def _of_the_queue(case: Case) -> Iterator[Reason]:
    if case.task not in case.broker.queued:
        return
    if case.fleet.silent:
        yield _frozen(case, "its page waits in the queue")
    if any(view.for_rate for view in case.consumers.values()):
        yield _rate(case)
    free = [name for name, view in case.consumers.items() if not view.is_busy]
    if free and not case.is_under_way:
        yield Reason(
            "worker_deaf",
            f"its page waits in the queue, though {free[0]} answers and has a free process. That worker no longer takes"
            " messages: restart it",
        )
    elif case.consumers and not free:
        processes = sum(view.processes for view in case.consumers.values())
        yield Reason(
            "workers_busy",
            f"its page waits in the queue: all worker processes are busy ({processes}). It starts when one is free. To"
            " start it sooner, add workers or raise their --concurrency",
        )
    elif not case.consumers:
        yield Reason("queued", f"its page waits in the queue, and the workers can't be reached: {case.fleet.error}")


def _of_a_message_under_way(case: Case) -> Iterator[Reason]:
    if case.is_under_way:
        yield Reason("queued", "its page's message is on its way to a worker")


def _of_the_database(case: Case) -> Iterator[Reason]:
    if case.database.error is not None:
        yield Reason(
            "database_unreachable",
            f"PostgreSQL accepts no new connections: {case.database.error}. A worker that lost its connection can't do"
            " pages until it does. The run then continues by itself",
        )
    elif case.database.is_read_only:
        yield Reason(
            "database_read_only",
            "PostgreSQL accepts no writes (default_transaction_read_only, or a standby). No page can commit until it"
            " does. Make it writable, or point DATABASE_URL at the primary",
        )


def _of_a_lost_message(case: Case) -> Iterator[Reason]:
    if case.fleet.error is not None:
        return
    if case.fleet.silent:
        yield _frozen(case, case.place)
    kind = "message_lost" if case.is_watched else "no_watchdog"
    yield Reason(kind, f"{case.place}, and no online worker has it. {case.reseeded}")


def _unknown(case: Case) -> Iterator[Reason]:
    workers = case.fleet.error or f"{len(case.fleet.workers)} answer"
    yield Reason(
        "unknown",
        f"unknown: {case.place}. PostgreSQL: {case.trouble or 'answers'}. Redis: answers. Workers: {workers}."
        f" {case.reseeded}",
    )


#: In order of precedence.
_RULES: tuple[Callable[[Case], Iterator[Reason]], ...] = (
    _of_its_transaction,
    _of_redis,
    _of_no_worker,
    _of_its_worker,
    _of_the_queue,
    _of_the_database,
    _of_a_message_under_way,
    _of_a_lost_message,
    _unknown,
)


def _rate(case: Case) -> Reason:
    rate = case.broker.rate
    if rate in {None, "none"}:
        return Reason("queued", "a worker has its page and waits for Redis before it starts it. No rate is set")
    return Reason("rate", f"waits for the rate of all workers together, {rate}. To change it: backfill rate")


def _frozen(case: Case, place: str) -> Reason:
    return Reason("workers_frozen", f"{case.silent}{place[0].upper()}{place[1:]}. {case.reseeded}")


def _end(session: DatabaseSession) -> str:
    return f"If it isn't needed, end it: SELECT pg_terminate_backend({session.pid})"


def _seconds_left(run: Run, lane: Lane) -> float:
    return max(0.0, (lane.held_until - run.seen_at).total_seconds()) if lane.held_until else 0.0
