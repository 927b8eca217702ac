"""A complete run with the installed command and real workers, one of them killed at a random moment."""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest
from harness import PATIENCE, UNBOUNDED, Backfill, Worker, wait_for
from hypothesis import given
from hypothesis import strategies as st
from properties import oracle
from properties.effort import tried
from properties.hosts import Case, Order, cases
from properties.laboratory import Laboratory
from properties.oracle import ENQUEUED, PASSED_OVER, READ, Span, naive_utc

from sandbox.servers import Redis


@pytest.fixture(scope="module")
def backfill(laboratory: Laboratory, emptied_redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Backfill:
    """The command, with a watchdog every second."""
    return Backfill(
        directory=tmp_path_factory.mktemp("processes"),
        environment={
            **{name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")},
            "DATABASE_URL": laboratory.database_url,
            "REDIS_URL": emptied_redis.url,
            "BACKFILL_QUEUE": f"test-{secrets.token_hex(4)}",
            **UNBOUNDED,
            "BACKFILL_STANDING_SECONDS": "1",
            "BACKFILL_WATCHDOG_SECONDS": "1",
        },
    )


@pytest.fixture(scope="module")
def survivor(backfill: Backfill) -> Iterator[Worker]:
    """A worker with beat, alive during all examples."""
    worker = Worker.start(backfill, concurrency=1, beat=True)
    yield worker
    worker.stop()


def arguments(order: Order) -> list[str]:
    """Return the order as command-line arguments."""
    return [
        f"--limit={order.limit}",
        f"--lanes={order.lanes}",
        f"--delay-ms={order.delay_ms}",
        *([] if order.cursor is None else [f"--cursor={order.cursor}"]),
        *(f"--client-id={client}" for client in order.client_ids or ()),
        *(["--rescore-all"] if order.rescore_all else []),
    ]


@pytest.mark.parametrize("laboratory", ["en_US.UTF-8"], indirect=True)
@tried(5, much=10, shrinks=False)
@given(case=cases(limits=4, lanes=3), pages=st.integers(0, 15))
@pytest.mark.usefixtures("survivor")
def test_a_killed_worker_does_not_change_a_runs_result(
    laboratory: Laboratory, backfill: Backfill, case: Case, pages: int
) -> None:
    order = replace(case.order, rows=5_000)
    before = laboratory.load(case.host, keep_redis=True)
    passed, began = laboratory.after(order.cursor), laboratory.now()
    fated = oracle.fates(before, order.rules, passed)
    dry = backfill.json("run", *arguments(order))
    victim = Worker.start(backfill, concurrency=2)
    command = backfill.popen("run", "--apply", "--json", "--page-delay-ms=20", *arguments(order))
    try:
        wait_for(lambda: command.poll() is not None or laboratory.pages_done() >= pages, what=f"{pages} pages")
        victim.kill()
        output, errors = command.communicate(timeout=PATIENCE)
    finally:
        command.kill()
        victim.stop()

    assert command.returncode == 0, errors
    run = json.loads(output)
    assert run["state"] == "complete"
    assert {name: run["counts"][name] for name in ("read", *READ)} == oracle.counts(fated)
    assert {name: dry["counts"][name] for name in ("read", *READ)} == oracle.counts(fated)
    assert {name: dry["counts"][name] for name in PASSED_OVER} == oracle.passed_over(fated)
    assert run["pages"] == dry["pages"]
    after, span = laboratory.snapshot(), Span(began, laboratory.now())
    assert oracle.differences(before, after, fated, span, delay_ms=order.delay_ms) == []
    if order.delay_ms:
        due = sorted(after.job_by_key[oracle.our_key(lead)]["runAt"] for lead in fated if fated[lead] in ENQUEUED)
        started_at = naive_utc(datetime.fromisoformat(run["started_at"]))
        assert due == oracle.due_times(started_at, order.delay_ms, len(due))
    verified = backfill.json("verify", run["run_id"])  # a run without leads is never clean
    assert (verified["missing"], verified["contradictions"]) == ([], [])
