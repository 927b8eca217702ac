"""What is true of every run on every host database, in whatever order its messages arrive."""

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from properties import oracle
from properties.effort import tried
from properties.hosts import Case, cases
from properties.laboratory import Laboratory, looking_at, parameters
from properties.oracle import ENQUEUED, READ, naive_utc

from backfill_tasks.engine import checkpoint, ledger
from backfill_tasks.engine.model import Lane, Run
from backfill_tasks.engine.runs import cut, lanes_of, new_id

if TYPE_CHECKING:
    from backfill_tasks.engine.chain import Step

#: The order in which waiting messages are delivered.
deliveries = st.integers(0, 2**16).map(Random)


def counts(run: Run, *names: str) -> dict[str, int]:
    return {name: run.counts.get(name, 0) for name in names}


def walk(lane: Lane) -> tuple[object, ...]:
    """Return everything that must be equal for a lane in a dry run and its run."""
    classes = {name: lane.counts.get(name, 0) for name in ("read", *READ)}
    return lane.number, lane.bounds, lane.cursor, lane.page, lane.state, classes


# ---------------------------------------------------------------- the dry run


@tried(20)
@given(cases())
def test_a_dry_run_counts_every_lead_as_the_rules_say(laboratory: Laboratory, case: Case) -> None:
    host = laboratory.load(case.host)
    fated = oracle.fates(host, case.order.rules, laboratory.after(case.order.cursor))

    dry = laboratory.dry_run(case.order)

    assert dry.state == "complete"
    assert dry.finished_at is not None
    assert counts(dry, "read", *READ) == oracle.counts(fated)
    assert counts(dry, *oracle.PASSED_OVER) == oracle.passed_over(fated)


@tried(10)
@given(cases())
def test_a_dry_run_writes_nothing(laboratory: Laboratory, case: Case) -> None:
    host = laboratory.load(case.host)

    laboratory.dry_run(case.order)

    assert laboratory.snapshot() == host
    assert laboratory.redis.dbsize() == 0
    assert laboratory.runs_in_the_ledger() == 0
    assert laboratory.broker.sent == []


@tried(25)
@given(cases(), deliveries)
def test_a_run_does_what_its_dry_run_counted(laboratory: Laboratory, case: Case, random: Random) -> None:
    laboratory.load(case.host)
    dry = laboratory.dry_run(case.order)

    run = laboratory.run(case.order, random)

    assert run.state == dry.state == "complete"
    assert [walk(lane) for lane in run.lanes] == [walk(lane) for lane in dry.lanes]


# ---------------------------------------------------------------- the run


@tried(50)
@given(cases(), deliveries)
def test_a_run_leaves_what_the_rules_say_and_nothing_else(laboratory: Laboratory, case: Case, random: Random) -> None:
    laboratory.load(case.host)

    observed = laboratory.observe(case.order, lambda: laboratory.run(case.order, random))

    assert observed.differences(case.order) == []
    assert counts(observed.run, "read", *READ) == oracle.counts(observed.fates(case.order))


@tried(12)
@given(cases(), deliveries)
def test_the_pages_of_a_lane_follow_one_another_and_their_classes_add_up(
    laboratory: Laboratory, case: Case, random: Random
) -> None:
    laboratory.load(case.host)

    run = laboratory.run(case.order, random)

    pages = laboratory.pages(run.id)
    for lane in run.lanes:
        own = [page for page in pages if page.lane == lane.number]
        assert [page.number for page in own] == list(range(1, lane.page + 1))
        assert [page.lower for page in own] == [lane.bounds.lower, *(page.cursor for page in own[:-1])]
        assert own[-1].cursor == lane.cursor == lane.bounds.upper
    for page in pages:
        assert page.counts["read"] <= case.order.limit
        assert page.counts["read"] == sum(page.counts[name] for name in READ)
        assert len(laboratory.after(page.lower, page.cursor)) <= case.order.rows


@tried(12)
@given(cases(), deliveries)
def test_the_verification_of_a_complete_run_is_clean(laboratory: Laboratory, case: Case, random: Random) -> None:
    laboratory.load(case.host)

    run = laboratory.run(case.order, random)

    verified = laboratory.verify(run, rows=case.order.rows)
    assert not verified.wrong, verified
    assert verified.found == {name: (run.counts[name],) * 2 for name in ("inserted", "disqualified") if run.counts}
    assert verified.arrived == verified.quarantined == 0


@tried(12)
@given(cases(), st.data())
def test_the_verification_finds_every_lead_that_lost_what_the_run_gave_it(
    laboratory: Laboratory, case: Case, data: st.DataObject
) -> None:
    host = laboratory.load(case.host)
    run = laboratory.run(case.order)
    fated = oracle.fates(host, case.order.rules, laboratory.after(case.order.cursor))
    owed = sorted(lead for lead, what in fated.items() if what in (*ENQUEUED, "disqualified", "in_flight"))
    robbed = data.draw(st.lists(st.sampled_from(owed), unique=True) if owed else st.just([]), label="robbed")

    for lead in robbed:
        for job in laboratory.snapshot().jobs.values():
            if job["dedupeKey"] == oracle.our_key(lead):
                laboratory.delete("BackgroundJob", job["id"])
        laboratory.update("Lead", lead, overallScore=None, scoredAt=None)

    assert sorted(laboratory.verify(run, rows=case.order.rows).missing) == sorted(robbed)


@tried(15)
@given(cases(), deliveries)
def test_running_again_at_once_is_safe(laboratory: Laboratory, case: Case, random: Random) -> None:
    laboratory.load(case.host)
    first = laboratory.observe(case.order, lambda: laboratory.run(case.order, random))

    again = laboratory.observe(case.order, lambda: laboratory.run(case.order, random))

    assert again.differences(case.order) == []
    assert again.run.counts.get("inserted", 0) == again.run.counts.get("requeued", 0) == 0
    assert again.after.anchors_in_use() == first.after.anchors_in_use()


@tried(10)
@given(cases(most=20))
def test_of_two_messages_of_one_moment_always_the_same_is_the_anchor(laboratory: Laboratory, case: Case) -> None:
    laboratory.load(case.host)
    laboratory.run(case.order)
    anchors = laboratory.snapshot().anchors_in_use()
    laboratory.load(case.host.reversed())

    laboratory.run(case.order)

    assert laboratory.snapshot().anchors_in_use() == anchors


@tried(20)
@given(cases(), deliveries, st.integers(1, 86_400_000), st.sampled_from((0, 0, 1, 137)))
def test_the_nth_job_of_a_run_that_spreads_is_due_n_delays_after_its_start(
    laboratory: Laboratory, case: Case, random: Random, delay_ms: int, numbered: int
) -> None:
    order = replace(case.order, delay_ms=delay_ms)
    laboratory.load(case.host)

    observed = laboratory.observe(order, lambda: laboratory.run(order, random, ordinal=numbered))

    assert observed.differences(order) == []
    enqueued = [lead for lead, what in observed.fates(order).items() if what in ENQUEUED]
    due = sorted(observed.after.job_by_key[oracle.our_key(lead)]["runAt"] for lead in enqueued)
    assert due == oracle.due_times(naive_utc(observed.run.started_at), delay_ms, len(enqueued), before=numbered)
    assert observed.run.ordinal == numbered + len(enqueued)


# ---------------------------------------------------------------- lanes


@tried(30)
@given(cases(lanes=9))
def test_lanes_cover_all_leads_after_the_cursor_and_are_even(laboratory: Laboratory, case: Case) -> None:
    host = laboratory.load(case.host)
    passed = laboratory.after(case.order.cursor)

    lanes = laboratory.cut(case.order)

    assert [lead for lane in lanes for lead in laboratory.after(lane.bounds.lower, lane.bounds.upper)] == passed
    assert [lane.bounds.lower for lane in lanes[1:]] == [lane.bounds.upper for lane in lanes[:-1]]
    if passed:
        assert (lanes[0].bounds.lower, lanes[-1].bounds.upper) == (case.order.cursor, passed[-1])
        sizes = [len(laboratory.candidates(host, case.order, lane.bounds)) for lane in lanes]
        assert max(sizes) - min(sizes) <= 1
        assert len(lanes) == max(1, min(case.order.lanes, sum(sizes)))
    else:
        assert lanes == ()


@tried(20)
@given(cases(lanes=9), st.integers(1, 30))
def test_no_lane_is_smaller_than_the_smallest_that_is_wanted(laboratory: Laboratory, case: Case, smallest: int) -> None:
    host = laboratory.load(case.host)

    lanes = cut(laboratory.parts.engine, laboratory.backfill, parameters(case.order), smallest=smallest)

    assert len(lanes) <= case.order.lanes
    if len(lanes) > 1:
        assert min(len(laboratory.candidates(host, case.order, lane.bounds)) for lane in lanes) >= smallest


# ---------------------------------------------------------------- one batch at a time


@tried(12)
@given(cases(), deliveries)
def test_a_single_batch_ends_with_the_first_page_that_reads_something(
    laboratory: Laboratory, case: Case, random: Random
) -> None:
    order = replace(case.order, lanes=1)
    laboratory.load(case.host)
    dry = laboratory.dry_run(order, single_batch=True)

    run = laboratory.start(order, single_batch=True)
    laboratory.drain(order, random)

    once = laboratory.parts.runs.read(run)
    assert once.counts.get("read") or not any(lane.state == "running" for lane in once.lanes)
    assert once.state == ("paused" if any(lane.state == "running" for lane in once.lanes) else "complete")
    assert [walk(lane) for lane in once.lanes] == [walk(lane) for lane in dry.lanes]
    assert once.state == dry.state


@tried(15)
@given(cases(), deliveries)
def test_a_run_resumed_batch_by_batch_does_one_page_each_time_and_says_that_it_is_paused(
    laboratory: Laboratory, case: Case, random: Random
) -> None:
    laboratory.load(case.host)

    def batch_by_batch() -> Run:
        run = laboratory.start(case.order)
        if laboratory.parts.runs.read(run).state == "running":
            laboratory.parts.runs.pause(run, "batches are wanted")
        laboratory.drain(case.order, random)
        done = laboratory.parts.runs.read(run)
        while done.state == "paused":
            pages = done.pages
            laboratory.parts.runs.resume(run, single_batch=True)
            laboratory.drain(case.order, random)
            done = laboratory.parts.runs.read(run)
            assert done.pages > pages  # empty pages are passed
        return done

    observed = laboratory.observe(case.order, batch_by_batch)

    assert observed.run.state == "complete"
    assert observed.differences(case.order) == []


@tried(8, shrinks=False)
@given(case=cases(most=20, limits=4), watched=st.booleans())
def test_a_single_batch_is_one_page_whatever_else_waits_and_however_many_workers_there_are(
    laboratory: Laboratory, case: Case, *, watched: bool
) -> None:
    order = replace(case.order, lanes=3, delay_ms=0)
    laboratory.load(case.host)
    run = laboratory.start(order)
    if laboratory.parts.runs.read(run).state != "running":
        return
    laboratory.parts.runs.pause(run, "nobody was there to take its messages")
    laboratory.parts.runs.resume(run, single_batch=True)
    if watched:
        on_their_way = {message.task_id for message in laboratory.broker.waiting}
        laboratory.parts.watchdog.look(stalled_seconds=0, on_their_way=lambda: on_their_way)
    messages = laboratory.broker.waiting[::-1]

    with looking_at(order.rows), ThreadPoolExecutor(len(messages)) as workers:
        others: list[Future[Step]] = []

        def work() -> None:
            others.extend(workers.submit(laboratory.deliver, message) for message in messages[1:])
            wait(others, timeout=0.3)

        with laboratory.while_a_page_is_at_work(work):
            laboratory.deliver(messages[0])
        for other in others:
            other.result()
    laboratory.broker.waiting[:] = [each for each in laboratory.broker.waiting if each not in messages]
    laboratory.drain(order)

    with laboratory.parts.engine.begin() as connection:
        reading = [claim for claim in ledger.claims(connection, run) if claim.counts["read"]]
    assert len(reading) <= 1
    assert laboratory.parts.runs.read(run).state in {"paused", "complete"}


# ---------------------------------------------------------------- messages that come more than once


@tried(15)
@given(cases(most=25), deliveries, st.integers(2, 9))
def test_every_message_may_come_any_number_of_times_at_any_time(
    laboratory: Laboratory, case: Case, random: Random, times: int
) -> None:
    laboratory.load(case.host)

    def with_duplicates() -> Run:
        run = laboratory.start(case.order)
        with looking_at(case.order.rows):
            while laboratory.broker.waiting:
                message = laboratory.broker.waiting.pop(random.randrange(len(laboratory.broker.waiting)))
                for _ in range(random.randint(1, times)):
                    laboratory.deliver(message)
                laboratory.deliver(random.choice(laboratory.broker.sent))
        return laboratory.parts.runs.read(run)

    observed = laboratory.observe(case.order, with_duplicates)

    assert observed.run.state == "complete"
    assert observed.differences(case.order) == []
    assert laboratory.redis.dbsize() == 0
    assert all(number == 1 for number in Counter(laboratory.broker.sent).values())


@tried(8, shrinks=False)
@given(cases(most=25, lanes=3), st.integers(1, 4), st.integers(2, 6))
def test_every_message_may_come_several_times_at_once(
    laboratory: Laboratory, case: Case, times: int, workers: int
) -> None:
    laboratory.load(case.host)

    def all_at_once() -> Run:
        run = laboratory.start(case.order)
        with looking_at(case.order.rows), ThreadPoolExecutor(workers) as pool:
            while laboratory.broker.waiting:
                batch = [laboratory.broker.waiting.pop() for _ in range(len(laboratory.broker.waiting))]
                steps = [pool.submit(laboratory.deliver, message) for message in batch for _ in range(times)]
                for step in steps:
                    step.result()
        return laboratory.parts.runs.read(run)

    observed = laboratory.observe(case.order, all_at_once)

    assert observed.run.state == "complete"
    assert observed.differences(case.order) == []


# ---------------------------------------------------------------- leads that fail on their own


@tried(15)
@given(cases(most=40), deliveries, st.data())
def test_leads_that_fail_on_their_own_are_quarantined_and_all_others_go_through(
    laboratory: Laboratory, case: Case, random: Random, data: st.DataObject
) -> None:
    laboratory.load(case.host)
    leads = st.lists(st.sampled_from(case.host.leads), unique=True) if case.host.leads else st.just([])
    poisoned = data.draw(leads, label="poisoned")

    with laboratory.refusing(poisoned):
        observed = laboratory.observe(case.order, lambda: laboratory.run(case.order, random))

    fated = observed.fates(case.order)
    written = (*ENQUEUED, "disqualified")
    failing = {lead for lead in poisoned if fated.get(lead) in written}
    survivors = {lead: what for lead, what in fated.items() if lead not in failing}
    left = oracle.differences(observed.before, observed.after, survivors, observed.span, delay_ms=case.order.delay_ms)
    assert left == []
    assert observed.run.state == "complete"
    assert laboratory.quarantined(observed.run.id) == failing
    expected = oracle.counts(survivors)
    expected["read"] += len(failing)
    assert counts(observed.run, "read", *READ, "quarantined") == {**expected, "quarantined": len(failing)}
    if case.order.delay_ms:
        enqueued = [lead for lead, what in survivors.items() if what in ENQUEUED]
        due = sorted(observed.after.job_by_key[oracle.our_key(lead)]["runAt"] for lead in enqueued)
        assert due == oracle.due_times(naive_utc(observed.run.started_at), case.order.delay_ms, len(enqueued))
    assert not laboratory.verify(observed.run, rows=case.order.rows).wrong


# ---------------------------------------------------------------- what a run can be rebuilt from


@tried(15)
@given(cases(), deliveries, st.integers(0, 12))
def test_a_checkpoint_file_of_any_moment_brings_back_a_run_whose_ledger_and_redis_are_lost(
    tmp_path: Path, laboratory: Laboratory, case: Case, random: Random, pages: int
) -> None:
    laboratory.load(case.host)
    path = tmp_path / "checkpoint.json"

    def lost_and_restored() -> Run:
        run = laboratory.start(case.order)
        with looking_at(case.order.rows):
            for _ in range(pages):
                if laboratory.broker.waiting:
                    laboratory.deliver(laboratory.broker.waiting.pop(random.randrange(len(laboratory.broker.waiting))))
        checkpoint.write(path, laboratory.parts.runs.read(run))
        laboratory.lose_ledger_and_redis()
        kept = checkpoint.read(path)
        assert isinstance(kept, checkpoint.Checkpoint)
        restored = ledger.NewRun(new_id(), kept.parameters, lanes_of(kept.left), ordinal=kept.ordinal)
        laboratory.parts.runs.start(restored)
        laboratory.drain(case.order, random)
        return laboratory.parts.runs.read(restored.id)

    observed = laboratory.observe(case.order, lost_and_restored)

    assert observed.run.state == "complete"
    assert observed.differences(case.order) == []
