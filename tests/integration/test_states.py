"""Every state of a run and of a lane, combined with every command and every step of the engine."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import pytest
from integration.site import Site
from sqlalchemy import Connection

from backfill_tasks.engine import ledger, states
from backfill_tasks.engine.ledger.transitions import lock_lanes, move_lanes, move_run
from backfill_tasks.engine.model import PageMessage, PageResult, Run, RunId
from backfill_tasks.engine.quarantine import Tried
from backfill_tasks.engine.states import Actor, LaneState, RunState, WrongStateError

#: Why a run of `run_in` is in its state.
REASONS: dict[RunState, str | None] = {
    "running": None,
    "paused": "for lunch",
    "failed": "lane 1: it can't go on",
    "complete": None,
    "cancelled": "cancelled by command",
}


def run_in(site: Site, state: RunState) -> RunId:
    """Return a run of two lanes that reached its state the regular way. Its undone first messages wait."""
    site.host.add_leads("a", "b", "c", "d")
    run = site.start(limit=1, lanes=2).id
    match state:
        case "paused":
            site.runs.pause(run, "for lunch")
        case "failed":
            site.parts.chain.stop(site.waiting.pop(0), "it can't go on")
            site.deliver_all()
        case "complete":
            site.deliver_all()
        case "cancelled":
            site.runs.cancel(run)
    assert (site.read(run).state, site.read(run).reason) == (state, REASONS[state])
    return run


def events(site: Site) -> list[str]:
    return site.host.values("SELECT name FROM backfill.event ORDER BY id")


def first_page(run: RunId) -> PageMessage:
    """Return the first message of the first lane; it is late, unless the run has just started."""
    return PageMessage(run, lane=1, page=1, generation=1)


# ---------------------------------------------------------------- commands and the engine's own steps


def pause(site: Site, run: RunId) -> object:
    return site.runs.pause(run, "by the test")


def resume(site: Site, run: RunId) -> object:
    return site.runs.resume(run)


def cancel(site: Site, run: RunId) -> object:
    return site.runs.cancel(run)


def tune(site: Site, run: RunId) -> object:
    return site.runs.tune(run, {"limit": 7})


def retry(site: Site, run: RunId) -> list[Tried]:
    return list(site.parts.retrier.retry(run))


def verify(site: Site, run: RunId) -> object:
    return site.verify(run)


def look(site: Site, run: RunId) -> object:
    """Do what `status` and `watch` do."""
    return site.read(run)


def a_message_comes(site: Site, run: RunId) -> object:
    return site.parts.chain.step(first_page(run))


def a_page_can_not_be_done(site: Site, run: RunId) -> object:
    return site.parts.chain.stop(first_page(run), "no right to read")


def the_budget_is_used_up(site: Site, run: RunId) -> object:
    with site.engine.begin() as connection:
        return ledger.move_run(connection, run, "paused", by="page", reason="its budget is used up")


def a_lane_ends(site: Site, run: RunId) -> object:
    return site.parts.chain.finish(run)


def the_watchdog_looks(site: Site, run: RunId) -> object:
    return site.watchdog.look(stalled_seconds=0, on_their_way=set)


@dataclass(frozen=True)
class Change:
    """The expected result: the run's state and reason, its new events, and the command's refusal."""

    state: RunState
    reason: str | None
    noted: tuple[str, ...] = ()
    refusal: str | None = None


def nothing(state: RunState, *noted: str, refusal: str | None = None) -> Change:
    """Expect the run's state and reason to stay as they are."""
    return Change(state, REASONS[state], noted, refusal)


CONTINUE_OR_END = "`backfill resume {run}` continues it, `backfill cancel {run}` ends it"
CHECK = "`backfill verify {run}` checks it"
ANOTHER = "`backfill run` starts another"

Act = Callable[[Site, RunId], object]

EXPECTED: dict[Act, dict[RunState, Change]] = {
    pause: {
        "running": Change("paused", "by the test", ("paused",)),
        "paused": nothing("paused"),
        "failed": nothing("failed", refusal=f"has failed: nothing to pause; {CONTINUE_OR_END}"),
        "complete": nothing("complete", refusal=f"is complete: nothing to pause; {CHECK}"),
        "cancelled": nothing("cancelled", refusal=f"is cancelled: nothing to pause; {ANOTHER}"),
    },
    resume: {
        "running": nothing("running", "resumed"),
        "paused": Change("running", None, ("resumed",)),
        "failed": Change("running", None, ("resumed",)),
        "complete": nothing("complete", refusal=f"is complete: nothing to resume; {CHECK}"),
        "cancelled": nothing("cancelled", refusal=f"is cancelled: nothing to resume; {ANOTHER}"),
    },
    cancel: {
        "running": Change("cancelled", "cancelled by command", ("cancelled",)),
        "paused": Change("cancelled", "cancelled by command", ("cancelled",)),
        "failed": Change("cancelled", "cancelled by command", ("cancelled",)),
        "complete": nothing("complete", refusal=f"is complete: nothing to cancel; {CHECK}"),
        "cancelled": nothing("cancelled"),
    },
    tune: {
        "running": nothing("running", "tuned"),
        "paused": nothing("paused", "tuned"),
        "failed": nothing("failed", "tuned"),
        "complete": nothing("complete", refusal=f"is complete: nothing to tune; {CHECK}"),
        "cancelled": nothing("cancelled", refusal=f"is cancelled: nothing to tune; {ANOTHER}"),
    },
    retry: {
        **{state: nothing(state) for state in states.RUN_STATES},
        "cancelled": nothing("cancelled", refusal=f"is cancelled: nothing to retry; {ANOTHER}"),
    },
    verify: {state: nothing(state) for state in states.RUN_STATES},
    look: {state: nothing(state) for state in states.RUN_STATES},
    a_message_comes: {state: nothing(state) for state in states.RUN_STATES},
    a_page_can_not_be_done: {
        **{state: nothing(state) for state in states.RUN_STATES},
        "running": nothing("running", "lane failed"),
        "paused": nothing("paused", "lane failed"),
    },
    the_budget_is_used_up: {
        **{state: nothing(state) for state in states.RUN_STATES},
        "running": Change("paused", "its budget is used up", ("paused",)),
    },
    a_lane_ends: {state: nothing(state) for state in states.RUN_STATES},
    the_watchdog_looks: {
        **{state: nothing(state) for state in states.RUN_STATES},
        "running": nothing("running", "lane seeded again", "lane seeded again"),
    },
}

CASES = [
    pytest.param(state, act, change, id=f"{state}-{act.__name__}")
    for act, changes in EXPECTED.items()
    for state, change in changes.items()
]


@pytest.mark.parametrize(("state", "act", "change"), CASES)
def test_every_state_meets_every_command_and_every_step_of_the_engine(
    site: Site, state: RunState, act: Act, change: Change
) -> None:
    run = run_in(site, state)
    before, noted = site.read(run), events(site)

    refusal = None
    try:
        act(site, run)
    except WrongStateError as error:
        refusal = str(error)

    after = site.read(run)
    assert refusal == (change.refusal and f"run {run} {change.refusal.format(run=run)}")
    assert (after.state, after.reason) == (change.state, change.reason)
    assert events(site) == [*noted, *change.noted]
    assert (after.finished_at is not None) == (change.state in states.ENDED)
    if change.state == state:
        assert after.finished_at == before.finished_at


def test_every_state_is_in_every_expectation() -> None:
    assert all(set(changes) == set(states.RUN_STATES) for changes in EXPECTED.values())


@pytest.mark.parametrize("act", [pause, resume, cancel, tune])
@pytest.mark.parametrize("state", states.RUN_STATES)
def test_a_refused_command_leaves_lanes_and_messages_alone(site: Site, state: RunState, act: Act) -> None:
    if EXPECTED[act][state].refusal is None:
        return
    run = run_in(site, state)
    lanes, messages = site.read(run).lanes, list(site.waiting)

    with pytest.raises(WrongStateError):
        act(site, run)

    assert (site.read(run).lanes, site.waiting) == (lanes, messages)


@pytest.mark.parametrize("act", [pause, resume, cancel, tune])
def test_a_repeated_command_says_whether_it_did_anything(site: Site, act: Act) -> None:
    run = run_in(site, "running")

    first, second = act(site, run), act(site, run)

    assert (first, second) == {
        pause: (True, False),
        resume: ([], []),
        cancel: (True, False),
        tune: ({"limit": (1, 7)}, {}),
    }[act]


# ---------------------------------------------------------------- what leads where: the ledger obeys the table


@pytest.mark.parametrize("by", get_args(Actor))
@pytest.mark.parametrize("old", states.RUN_STATES)
def test_a_run_moves_where_the_table_lets_it_and_nowhere_else(site: Site, old: RunState, by: Actor) -> None:
    run = run_in(site, "running")

    def moves(new: RunState) -> bool:
        site.host.do("UPDATE backfill.run SET state = %s", old)
        noted = events(site)
        with site.engine.begin() as connection:
            moved = move_run(connection, run, new, by=by)
        assert site.read(run).state == (new if moved else old)
        assert len(events(site)) - len(noted) == moved
        return moved

    allowed = {each.new for each in states.RUN if (each.old, each.by) == (old, by)}
    assert {new for new in states.RUN_STATES if moves(new)} == allowed


@pytest.mark.parametrize("run_state", states.RUN_STATES)
@pytest.mark.parametrize("old", states.LANE_STATES)
def test_a_lane_moves_where_the_table_lets_it_and_nowhere_else(site: Site, old: LaneState, run_state: RunState) -> None:
    run = run_in(site, "running")
    site.host.do("UPDATE backfill.run SET state = %s", run_state)

    def moves(new: LaneState, by: Actor) -> bool:
        site.host.do("UPDATE backfill.lane SET state = %s, reason = 'before' WHERE number = 1", old)
        with site.engine.begin() as connection:
            locked = lock_lanes(connection, run, [1])
            moved = move_lanes(connection, run, locked, new, by=by, reason="after" if new == "failed" else None)
        (state,) = site.host.values("SELECT state FROM backfill.lane WHERE number = 1")
        (reason,) = site.host.values("SELECT reason FROM backfill.lane WHERE number = 1")
        assert (state, reason) == ((new, "after" if new == "failed" else None) if moved else (old, "before"))
        return bool(moved)

    found = {(new, by) for new in states.LANE_STATES for by in get_args(Actor) if moves(new, by)}
    assert found == {
        (each.new, each.by) for each in states.LANE if each.old == old and run_state in states.RUN_STATES_FOR[each.new]
    }


@pytest.mark.parametrize(("table", "known"), [("run", states.RUN_STATES), ("lane", states.LANE_STATES)])
def test_the_ledger_s_tables_allow_the_states_of_the_table_and_no_others(
    site: Site, table: str, known: tuple[str, ...]
) -> None:
    (constraint,) = site.host.values(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%%state%%'",
        f"backfill.{table}",
    )

    assert sorted(re.findall(r"'(\w+)'", constraint)) == sorted(known)


def test_every_event_of_a_transition_tells_from_where_to_where_why_and_who(site: Site) -> None:
    run = run_in(site, "failed")
    site.runs.resume(run)
    site.runs.pause(run, "for tea")
    site.runs.cancel(run)

    rows = site.host.rows("SELECT name, detail, who FROM backfill.event WHERE detail ? 'new' ORDER BY id")

    assert [(row["name"], row["detail"]) for row in rows] == [
        ("failed", {"old": "running", "new": "failed", "reason": "lane 1: it can't go on"}),
        ("resumed", {"old": "failed", "new": "running", "reason": None, "lost_lanes": []}),
        ("paused", {"old": "running", "new": "paused", "reason": "for tea"}),
        ("cancelled", {"old": "paused", "new": "cancelled", "reason": "cancelled by command"}),
    ]
    assert {row["who"] for row in rows} == {ledger.who()}


# ---------------------------------------------------------------- lanes


def test_resume_starts_failed_lanes_again_and_leaves_done_ones_alone(site: Site) -> None:
    run = run_in(site, "failed")

    site.runs.resume(run)

    first, second = site.read(run).lanes
    assert (first.state, first.reason, first.generation) == ("running", None, 2)
    assert (second.state, second.generation) == ("done", 1)
    assert site.waiting == [PageMessage(run, lane=1, page=1, generation=2)]


def test_a_lane_that_is_done_can_not_fail(site: Site) -> None:
    run = run_in(site, "running")
    site.deliver_all()
    lane = site.read(run).lanes[0]

    step = site.parts.chain.stop(PageMessage(run, 1, lane.page + 1, lane.generation), "too late")

    assert step.outcome == "superseded"
    assert site.read(run).lanes[0].state == "done"


def test_a_single_batch_whose_run_was_cancelled_does_not_go_on_in_the_next_lane(site: Site) -> None:
    run = run_in(site, "cancelled")
    site.waiting.clear()

    site.parts.chain.reseed(run, [2])

    assert site.read(run).lanes[1].generation == 1
    assert site.waiting == []


def test_reseeding_leaves_a_failed_lane_to_the_operator(site: Site) -> None:
    run = run_in(site, "running")
    site.parts.chain.stop(first_page(run), "it can't go on")

    site.parts.chain.reseed(run, [1])

    assert site.read(run).lanes[0].state == "failed"


# ---------------------------------------------------------------- runs whose lanes have all ended


def lanes_have_ended(site: Site, *, state: RunState = "running", failed: bool = False) -> Run:
    """Return a run whose last lane has ended and whose finisher died before it ended the run."""
    site.host.add_leads("a")
    run = site.start()
    message = site.waiting.pop()
    if failed:
        with site.engine.begin() as connection:
            ledger.fail_lane(connection, message, "it can't go on")
    else:
        site.parts.chain.pages.do(message)
    site.host.do("UPDATE backfill.run SET state = %s", state)
    return run


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("finisher", [a_lane_ends, the_watchdog_looks])
class TestARunWhoseLanesHaveAllEnded:
    def test_is_finished_if_it_is_running(self, site: Site, finisher: Act, *, failed: bool) -> None:
        run = lanes_have_ended(site, failed=failed)

        finisher(site, run.id)

        assert site.read(run.id).state == ("failed" if failed else "complete")

    def test_stays_paused_until_it_is_resumed(self, site: Site, finisher: Act, *, failed: bool) -> None:
        run = lanes_have_ended(site, state="paused", failed=failed)

        finisher(site, run.id)

        assert site.read(run.id).state == "paused"
        site.runs.resume(run.id)
        site.deliver_all()
        assert site.read(run.id).state == "complete"

    def test_stays_cancelled(self, site: Site, finisher: Act, *, failed: bool) -> None:
        run = lanes_have_ended(site, state="cancelled", failed=failed)

        finisher(site, run.id)

        assert site.read(run.id).state == "cancelled"


def test_the_watchdog_finishes_a_single_batch_whose_lane_failed(site: Site) -> None:
    site.host.add_leads("a", "b")
    run = site.start(limit=1, lanes=2, single_batch=True)
    with site.engine.begin() as connection:
        ledger.fail_lane(connection, site.waiting.pop(), "it can't go on")

    the_watchdog_looks(site, run.id)

    assert (site.read(run.id).state, site.read(run.id).reason) == ("failed", "lane 1: it can't go on")


# ---------------------------------------------------------------- two at once


@contextmanager
def page_at_work(site: Site, run: RunId) -> Iterator[Connection]:
    """Yield the open transaction of the first lane's first page, after its fence. The test may roll it back."""
    with site.engine.connect() as connection:
        ledger.fence(connection, first_page(run), lock_ms=10_000, statement_ms=60_000)
        yield connection
        connection.commit()


def lanes_of_one_page(site: Site) -> Run:
    site.host.add_leads("a")
    return site.start()


def commit_its_last_page(connection: Connection, run: Run) -> None:
    message = first_page(run.id)
    found = ledger.fence(connection, message, lock_ms=10_000, statement_ms=60_000)
    assert found is not None
    last = PageResult(found.lane.bounds.upper, {"read": 1})
    ledger.record(connection, message, found, last, [], size=None, seconds=0.1)


def with_two_in_quarantine(strict_site: Site) -> RunId:
    strict_site.host.add_leads("a", "b", "c")
    strict_site.host.refuse_jobs_of("a", "c")
    run = strict_site.whole_run(limit=3)
    strict_site.host.refuse_jobs_of()
    return run.id


class TestWhoeverComesSecond:
    """One transaction is open and has its locks; a second one waits for them and then finds a new state."""

    @pytest.mark.parametrize("act", [pause, cancel, tune])
    def test_is_refused_once_the_run_is_complete(self, site: Site, aside: ThreadPoolExecutor, act: Act) -> None:
        run = lanes_have_ended(site)

        with site.engine.begin() as connection:
            ledger.finish(connection, run.id)
            second = aside.submit(act, site, run.id)
            site.host.wait_until_blocked()

        with pytest.raises(WrongStateError, match="is complete: nothing to"):
            second.result()
        assert events(site) == ["started", "complete"]

    @pytest.mark.parametrize("act", [pause, resume, tune])
    def test_is_refused_once_the_run_is_cancelled(self, site: Site, aside: ThreadPoolExecutor, act: Act) -> None:
        run = run_in(site, "running")

        with site.engine.begin() as connection:
            move_run(connection, run, "cancelled", by="operator")
            second = aside.submit(act, site, run)
            site.host.wait_until_blocked()

        with pytest.raises(WrongStateError, match="is cancelled: nothing to"):
            second.result()
        assert events(site) == ["started", "cancelled"]
        assert [lane.generation for lane in site.read(run).lanes] == [1, 1]

    @pytest.mark.parametrize("new", ["paused", "cancelled"])
    def test_does_not_finish_a_run_that_was_halted(self, site: Site, aside: ThreadPoolExecutor, new: RunState) -> None:
        run = lanes_have_ended(site)

        with site.engine.begin() as connection:
            move_run(connection, run.id, new, by="operator")
            second = aside.submit(a_lane_ends, site, run.id)
            site.host.wait_until_blocked()
        second.result()

        assert site.read(run.id).state == new

    def test_does_not_fail_a_run_whose_failed_lane_was_resumed(self, site: Site, aside: ThreadPoolExecutor) -> None:
        run = lanes_have_ended(site, failed=True)

        with site.engine.begin() as connection:
            lanes = ledger.lock_lanes(connection, run.id)
            ledger.resume(connection, run.id, lanes, single_batch=False, lost_lanes=[])
            second = aside.submit(a_lane_ends, site, run.id)
            site.host.wait_until_blocked()
        second.result()

        assert (site.read(run.id).state, site.read(run.id).lanes[0].state) == ("running", "running")

    @pytest.mark.parametrize("act", [pause, cancel])
    def test_does_not_revive_a_lane_of_a_run_that_was_halted(
        self, site: Site, aside: ThreadPoolExecutor, act: Act
    ) -> None:
        run = run_in(site, "running")
        site.waiting.clear()

        with page_at_work(site, run) as connection:
            second = aside.submit(the_watchdog_looks, site, run)
            site.host.wait_until_blocked()
            act(site, run)
            connection.rollback()

        assert second.result() == []
        assert [lane.generation for lane in site.read(run).lanes] == [1, 1]
        assert site.waiting == []

    def test_of_two_operators_who_pause_changes_nothing(self, site: Site, aside: ThreadPoolExecutor) -> None:
        run = run_in(site, "running")

        answers = list(aside.map(lambda number: site.runs.pause(run, f"by operator {number}"), range(6)))

        assert answers.count(True) == 1
        (event,) = site.host.events("paused")
        assert event["detail"]["reason"] == site.read(run).reason

    def test_of_two_operators_who_cancel_changes_nothing(self, site: Site, aside: ThreadPoolExecutor) -> None:
        run = run_in(site, "paused")

        answers = list(aside.map(lambda _: site.runs.cancel(run), range(6)))

        assert answers.count(True) == 1
        assert len(site.host.events("cancelled")) == 1

    def test_of_two_operators_who_resume_has_the_lanes(self, site: Site, aside: ThreadPoolExecutor) -> None:
        run = run_in(site, "paused")

        list(aside.map(lambda _: site.runs.resume(run), range(4)))
        site.deliver_all()

        assert site.read(run).state == "complete"
        assert site.host.enqueued() == ["a", "b", "c", "d"]
        assert [event["detail"]["old"] for event in site.host.events("resumed")] == ["paused", *["running"] * 3]


class TestAPageAtWork:
    """A page's transaction locks its lane. It doesn't lock the run, so no command waits for it."""

    @pytest.mark.parametrize(("act", "state"), [(pause, "paused"), (cancel, "cancelled")])
    def test_commits_in_a_run_that_was_halted_meanwhile(self, site: Site, act: Act, state: RunState) -> None:
        run = lanes_of_one_page(site)

        with page_at_work(site, run.id) as connection:
            act(site, run.id)
            commit_its_last_page(connection, run)
        site.parts.chain.finish(run.id)

        found = site.read(run.id)
        assert (found.state, found.lanes[0].state, found.pages) == (state, "done", 1)

    def test_is_followed_by_none_in_a_run_that_was_cancelled(self, site: Site) -> None:
        run = run_in(site, "cancelled")

        site.deliver_all()

        assert site.read(run).pages == 0
        assert site.host.enqueued() == []

    def test_and_a_resume_that_waits_for_it_do_not_block_each_other(
        self, site: Site, aside: ThreadPoolExecutor
    ) -> None:
        run = run_in(site, "running")

        with page_at_work(site, run) as connection:
            resumed = aside.submit(resume, site, run)
            site.host.wait_until_blocked()
            move_run(connection, run, "paused", by="page", reason="its budget is used up")
        resumed.result()

        assert site.read(run).state == "running"


class TestARetry:
    def test_of_a_cancelled_run_tries_nothing(self, strict_site: Site) -> None:
        run = with_two_in_quarantine(strict_site)
        strict_site.host.do("UPDATE backfill.run SET state = 'cancelled'")

        with pytest.raises(WrongStateError, match="is cancelled: nothing to retry"):
            retry(strict_site, run)

        assert strict_site.host.enqueued() == ["b"]
        assert strict_site.host.events("retried") == []

    def test_gets_no_further_once_its_run_is_cancelled(self, strict_site: Site) -> None:
        run = with_two_in_quarantine(strict_site)
        strict_site.host.do("UPDATE backfill.run SET state = 'paused'")
        tried = strict_site.parts.retrier.retry(run)
        assert next(tried).outcome == "went through"

        strict_site.runs.cancel(run)

        with pytest.raises(WrongStateError, match="is cancelled: nothing to retry"):
            next(tried)
        assert strict_site.host.enqueued() == ["a", "b"]
        (event,) = strict_site.host.events("retried")
        assert event["detail"] == {"went through": 1, "left": 1}
