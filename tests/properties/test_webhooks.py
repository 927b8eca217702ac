"""Webhooks during a page: their transactions are open when it starts, and end while it is in flight."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from harness import wait_for
from hypothesis import given
from hypothesis import strategies as st
from properties import oracle
from properties.effort import tried
from properties.hosts import Case, cases, job_row, lead_row, message_row
from properties.laboratory import Laboratory, looking_at
from properties.oracle import ENQUEUED, READ, Snapshot, Span, our_key

if TYPE_CHECKING:
    from backfill_tasks.engine.chain import Step

ROUNDS = 200


#: Changes by a webhook, the host's runner or another run to a lead and its rows.
TO_THE_LEAD = ("delete", "disqualify", "tag", "score", "receive", "delete the anchor", "make one beside it")
TO_ITS_JOB = ("take on", "end", "delete", "enqueue")


def change_the_lead(laboratory: Laboratory, now: Snapshot, lead: str, what: str) -> None:
    """Change the lead or its messages, if possible."""
    anchors = sorted(now.anchors(lead))
    match what:
        case "delete":
            laboratory.delete("Lead", lead)
        case "disqualify":
            laboratory.update("Lead", lead, sentimentTag="Opt Out")
        case "tag":
            laboratory.update("Lead", lead, sentimentTag="Interested")
        case "score":
            laboratory.update("Lead", lead, fitScore=4, intentScore=4, overallScore=4)
        case "receive":
            laboratory.insert("Message", [message_row(f"new of {lead}", lead, direction="inbound", minute=9)])
        case "delete the anchor" if anchors:
            laboratory.delete("Message", anchors[-1])
        case "make one beside it" if beside(lead) not in now.leads:
            row = lead_row(beside(lead), now.leads[lead]["clientId"], 0, tag=None, score=None)
            message = message_row(f"of {beside(lead)}", beside(lead), direction="inbound", minute=9)
            laboratory.insert("Lead", [row])
            laboratory.insert("Message", [message])


def change_its_job(laboratory: Laboratory, now: Snapshot, lead: str, what: str) -> None:
    """Change our job of the lead, if possible."""
    job, anchors, client = now.our_job(lead), sorted(now.anchors(lead)), now.leads[lead]["clientId"]
    if job is None:
        if what == "enqueue" and anchors:
            row = job_row(f"new of {lead}", our_key(lead), lead, client, anchors[0], status="PENDING")
            laboratory.insert("BackgroundJob", [row])
        return
    match what:
        case "take on":
            laboratory.update("BackgroundJob", job["id"], status="RUNNING", lockedBy="host")
        case "end":
            laboratory.update("BackgroundJob", job["id"], status="SUCCEEDED", lockedBy=None)
        case "delete":
            laboratory.delete("BackgroundJob", job["id"])


def beside(lead: str) -> str:
    """Return a lead id that sorts close to this one."""
    return f"{lead}+"


changes = st.one_of(
    st.tuples(st.just(change_the_lead), st.sampled_from(TO_THE_LEAD)),
    st.tuples(st.just(change_its_job), st.sampled_from(TO_ITS_JOB)),
)


@contextmanager
def in_a_transaction(laboratory: Laboratory, *, keep: bool) -> Iterator[None]:
    """Run the block in a transaction of the host, committed if `keep`, else rolled back."""
    with laboratory.host_connection.transaction(force_rollback=not keep):
        yield


def over_or_waiting(page: "Future[Step]", observer: "psycopg.Connection[Any]") -> bool:
    """Return whether a page has ended or waits for a lock."""
    waits = observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return page.done() or (waits is not None and waits[0] > 0)


@pytest.fixture
def observer(laboratory: Laboratory) -> Iterator["psycopg.Connection[Any]"]:
    """A connection for observing the others."""
    with psycopg.connect(laboratory.database_url, autocommit=True) as connection:
        yield connection


@tried(20)
@given(case=cases(most=20, limits=6, lanes=2), data=st.data())
def test_a_page_succeeds_despite_a_concurrent_webhook(
    laboratory: Laboratory, observer: "psycopg.Connection[Any]", case: Case, data: st.DataObject
) -> None:
    order = replace(case.order, rows=5_000)
    laboratory.load(case.host)
    run = laboratory.start(order)
    enqueued: Counter[str] = Counter()
    with looking_at(order.rows), ThreadPoolExecutor(1) as worker:
        for _ in range(ROUNDS):
            if not laboratory.broker.waiting:
                break
            message = laboratory.broker.waiting.pop(0)
            lane = laboratory.parts.runs.read(run).lanes[message.lane - 1]
            near = laboratory.after(lane.position, lane.bounds.upper)[: order.limit + 1]
            before, began = laboratory.snapshot(), laboratory.now()
            touched = data.draw(st.sampled_from(near), label="touched") if near else None
            with in_a_transaction(laboratory, keep=data.draw(st.booleans(), label="kept")):
                if touched is not None:
                    change, what = data.draw(changes, label="webhook")
                    change(laboratory, before, touched, what)
                page = worker.submit(laboratory.deliver, message)
                wait_for(partial(over_or_waiting, page, observer), what="the page to end or to wait")

            step = page.result()

            assert step.outcome == "committed"
            assert step.page is not None
            after, span = laboratory.snapshot(), Span(began, laboratory.now())
            exempt = set() if touched is None else {touched, beside(touched)}
            passed = [
                lead
                for lead in laboratory.after(lane.position, step.page.result.cursor)
                if lead in before.leads and lead not in exempt
            ]
            fated = oracle.fates(before, order.rules, passed)
            assert oracle.differences(before, after, fated, span, delay_ms=order.delay_ms, exempt=exempt) == []
            others = oracle.counts(fated)
            counted = step.page.result.counts
            assert counted["read"] == sum(counted[name] for name in READ)
            assert all(0 <= counted[name] - others[name] <= 1 for name in READ)
            assert 0 <= counted["read"] - others["read"] <= len(exempt)
            enqueued.update(lead for lead, what in fated.items() if what in ENQUEUED)
    done = laboratory.parts.runs.read(run)
    assert done.state == "complete"
    assert all(number == 1 for number in enqueued.values())
    assert laboratory.verify(done, rows=order.rows).contradictions == ()
