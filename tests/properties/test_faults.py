"""Random sequences of faults and of the host's own work during a run, and the invariants that are true throughout.

The test is the broker: it delivers, repeats, loses and reorders messages. Processes die at any step, Redis is emptied,
operators pause and resume, the watchdog checks the lanes, and webhooks change rows between the pages.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, TypeVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from properties import oracle
from properties.effort import tried
from properties.hosts import CLIENTS, TAGS, Case, cases, lead_ids, lead_row, message_row
from properties.laboratory import Laboratory, looking_at
from properties.mortality import Died, Reaper, mortal
from properties.oracle import ENQUEUED, READ, Span, naive_utc
from sqlalchemy import text

from backfill_tasks.engine.model import PageMessage, Run, RunId
from backfill_tasks.engine.page.transaction import MOST_ATTEMPTS
from backfill_tasks.engine.states import UNFINISHED, IllegalTransitionError
from backfill_tasks.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")

#: Picks one of several: its position modulo their number.
which = st.integers(0, 63)
#: After how many steps a process dies; a lane's last page takes about 30. None: never.
poison = st.integers(0, 32)
deaths = st.none() | poison

#: What others may do between a page's commit and the sending of the next.
MEANWHILE = ("pause", "cancel", "resume", "watchdog", "duplicate", "empty redis")

#: More rounds than any of these runs needs to end.
ROUNDS = 200


class Faults(RuleBasedStateMachine):
    """One run from start to end, and everything that can happen to it."""

    laboratory: ClassVar[Laboratory]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.reaper = Reaper()
        self.runs = self.stack.enter_context(mortal(self.laboratory, self.reaper))
        self.run: RunId | None = None
        self.touched: set[str] = set()  # leads that the host changed, or whose rows it did
        self.shaken: set[str] = set()  # ... so that it may take part or not, or lost its job
        self.arrived: set[str] = set()  # leads that the host created during the run
        self.did: Counter[str] = Counter()  # what the run did, by class, according to the rows
        self.enqueued: Counter[str] = Counter()  # how often, by lead
        self.due: list[datetime] = []
        self.lost_processes: Counter[tuple[int, int]] = Counter()  # by lane and page
        self.given_up: set[tuple[int, int]] = set()
        self.batch_ends_at: int | None = None  # at most this many pages that read, until the run is resumed

    # ------------------------------------------------------------ the run and its messages

    @initialize(case=cases(most=16, limits=4, lanes=3), may_cancel=st.integers(0, 3))
    def start(self, case: Case, may_cancel: int) -> None:
        self.order = case.order
        self.may_cancel = may_cancel == 0
        self.stack.enter_context(looking_at(case.order.rows))
        self.before = self.now = self.laboratory.load(case.host)
        self.versions = self._versions()
        self.began = self.laboratory.now()
        self.run = self.laboratory.start(case.order)

    @property
    def waiting(self) -> list[PageMessage]:
        return self.laboratory.broker.waiting

    @property
    def sent(self) -> list[PageMessage]:
        return self.laboratory.broker.sent

    @precondition(lambda self: self.waiting)
    @rule()
    def deliver_the_oldest_message(self) -> None:
        self._deliver(self.waiting.pop(0))

    @precondition(lambda self: self.waiting)
    @rule(index=which)
    def deliver_any_message(self, index: int) -> None:
        self._deliver(self.waiting.pop(index % len(self.waiting)))

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(2, 6))
    def deliver_some_messages(self, number: int) -> None:
        for _ in range(number):
            if self.waiting:
                self._deliver(self.waiting.pop(0))

    @precondition(lambda self: self.waiting)
    @rule(index=which, steps=poison, comes_back=st.booleans())
    def deliver_a_message_to_a_process_that_dies(self, index: int, steps: int, *, comes_back: bool) -> None:
        message = self.waiting.pop(index % len(self.waiting))
        if not self._deliver(message, dies_after=steps) and comes_back:
            self.waiting.append(message)

    @precondition(lambda self: self.waiting)
    @rule(index=which, what=st.sampled_from(MEANWHILE))
    def deliver_a_message_while_somebody_acts(self, index: int, what: str) -> None:
        """Act between the commit of a page and the sending of the next."""
        message = self.waiting.pop(index % len(self.waiting))
        acts: dict[str, Callable[[], object]] = {
            "pause": lambda: self._command(lambda: self.runs.pause(self._run, "paused in the midst of a page")),
            "cancel": lambda: self.may_cancel and self._command(lambda: self.runs.cancel(self._run)),
            "resume": lambda: self._read().state in UNFINISHED and self.runs.resume(self._run),
            "watchdog": self._watch,
            "duplicate": lambda: self._deliver(message),
            "empty redis": self.laboratory.redis.flushdb,
        }
        self.reaper.meanwhile = acts[what]
        self._deliver(message)
        self.reaper.meanwhile = None

    @precondition(lambda self: self.sent)
    @rule(index=which, times=st.integers(1, 7), steps=deaths)
    def deliver_a_message_again(self, index: int, times: int, steps: int | None) -> None:
        message = self.sent[index % len(self.sent)]
        for _ in range(times):
            self._deliver(message, dies_after=steps)

    @precondition(lambda self: self.waiting)
    @rule(index=which)
    def lose_a_message(self, index: int) -> None:
        self.waiting.pop(index % len(self.waiting))

    @rule(messages_too=st.booleans())
    def empty_redis(self, *, messages_too: bool) -> None:
        self.laboratory.redis.flushdb()
        if messages_too:
            self.waiting.clear()

    # ------------------------------------------------------------ operators and the watchdog

    @precondition(lambda self: self._read().state == "running")
    @rule(steps=deaths)
    def pause(self, steps: int | None) -> None:
        self._act(lambda: self.runs.pause(self._run, "paused by a test"), dies_after=steps)

    @precondition(lambda self: self._read().state in UNFINISHED)
    @rule(steps=deaths, single_batch=st.booleans())
    def resume(self, steps: int | None, *, single_batch: bool) -> None:
        self._resume(dies_after=steps, single_batch=single_batch)

    @precondition(lambda self: self._read().state in {"paused", "failed"})
    @rule()
    def resume_what_stands(self) -> None:
        self._resume()

    def _resume(self, *, dies_after: int | None = None, single_batch: bool = False) -> None:
        before = self._read()
        placed = {lane.number for lane in before.lanes if lane.page}
        lost = {number for number in placed if self.runs.chain.live.read(self._run, number) is None}
        done = {lane.number for lane in before.lanes if lane.state == "done"}
        self.batch_ends_at, read = None, self._pages_that_read()
        answered = self._act(lambda: self.runs.resume(self._run, single_batch=single_batch), dies_after=dies_after)
        self.batch_ends_at = read + 1 if self._read().single_batch else None
        if answered is not None:
            assert set(answered) == lost - done

    @precondition(lambda self: self.may_cancel)
    @rule(steps=deaths)
    def cancel(self, steps: int | None) -> None:
        self._act(lambda: self._command(lambda: self.runs.cancel(self._run)), dies_after=steps)

    @rule(steps=deaths)
    def let_the_watchdog_look(self, steps: int | None) -> None:
        self._watch(dies_after=steps)

    @precondition(lambda self: self.sent)
    @rule(index=which, one_that_is_awaited=st.sampled_from((False, False, False, True)))
    def give_a_message_up(self, index: int, *, one_that_is_awaited: bool) -> None:
        """Give up a message whose page, as far as this delivery knows, met transient errors too often."""
        message = self.sent[index % len(self.sent)]
        run = self._read()
        lane = run.lanes[message.lane - 1]
        awaited = (message.generation, message.page) == (lane.generation, lane.page + 1)
        if awaited and not one_that_is_awaited:
            return
        stopped = awaited and lane.state == "running" and run.state in UNFINISHED
        if stopped:
            self.given_up.add((message.lane, message.page))
        step = self._act(lambda: self.runs.chain.stop(message, "given up by a test"))
        assert step is not None
        assert (step.outcome == "stopped") == stopped, "a message stopped a lane that did not wait for it"

    # ------------------------------------------------------------ the host

    @rule(
        lead=lead_ids,
        client=st.sampled_from(CLIENTS),
        tag=st.sampled_from(TAGS),
        direction=st.sampled_from(("inbound", "outbound")),
    )
    def a_lead_comes(self, lead: str, client: str, tag: str | None, direction: str) -> None:
        if lead in self.now.leads:
            return
        moment = self.laboratory.now()
        row = lead_row(lead, client, len(self.now.leads), tag=tag, score=None) | {"createdAt": moment}
        message = message_row(f"of {lead}", lead, direction=direction, minute=3) | {"createdAt": moment}
        self.laboratory.insert("Lead", [row])
        self.laboratory.insert("Message", [message])
        self.arrived.add(lead)
        self._host_changed(lead, shaken=True)

    @precondition(lambda self: self.now.leads)
    @rule(index=which)
    def a_lead_goes(self, index: int) -> None:
        lead = self._lead(index)
        self.laboratory.delete("Lead", lead)
        self._host_changed(lead, shaken=True)

    @precondition(lambda self: self.now.leads)
    @rule(index=which, tag=st.sampled_from(TAGS), score=st.none() | st.integers(1, 4), client=st.sampled_from(CLIENTS))
    def a_lead_is_tagged_scored_or_moved(self, index: int, tag: str | None, score: int | None, client: str) -> None:
        lead = self._lead(index)
        self.laboratory.update("Lead", lead, sentimentTag=tag, overallScore=score, clientId=client)
        self._host_changed(lead, shaken=True)

    @precondition(lambda self: self.now.leads)
    @rule(index=which, direction=st.sampled_from(("inbound", "outbound")), minute=st.integers(0, 5))
    def a_message_comes(self, index: int, direction: str, minute: int) -> None:
        lead = self._lead(index)
        name = f"late {len(self.now.tables['Message'])} {self.laboratory.now().isoformat()}"
        row = message_row(name, lead, direction=direction, minute=minute) | {"createdAt": self.laboratory.now()}
        first = direction == "inbound" and not self.now.anchors(lead)
        self.laboratory.insert("Message", [row])
        self._host_changed(lead, shaken=first)

    @precondition(lambda self: self.now.tables["Message"])
    @rule(index=which)
    def a_message_goes(self, index: int) -> None:
        messages = list(self.now.tables["Message"].values())
        message = messages[index % len(messages)]
        self.laboratory.delete("Message", message["id"])
        self._host_changed(message["leadId"], shaken=True)

    @precondition(lambda self: self.now.jobs)
    @rule(index=which)
    def the_runner_takes_a_job_on(self, index: int) -> None:
        jobs = list(self.now.jobs.values())
        job = jobs[index % len(jobs)]
        moment = self.laboratory.now()
        match job["status"]:
            case "PENDING":
                taken = {"lockedAt": moment, "lockedBy": "runner", "startedAt": moment, "attempts": job["attempts"] + 1}
                self.laboratory.update("BackgroundJob", job["id"], status="RUNNING", **taken)
            case "RUNNING":
                status = "SUCCEEDED" if index % 2 else "FAILED"
                ended = {"lockedAt": None, "lockedBy": None, "finishedAt": moment}
                self.laboratory.update("BackgroundJob", job["id"], status=status, **ended)
            case _:
                return
        self._host_changed(job["leadId"], shaken=False)

    # ------------------------------------------------------------ the end

    def teardown(self) -> None:
        try:
            if self.run is not None and sys.exc_info()[0] is None:
                self._settle()
        finally:
            self.stack.close()

    def _settle(self) -> None:
        """With the watchdog and `resume`, the run must end, whatever happened, and agree with the database."""
        for _ in range(ROUNDS):
            while self.waiting:
                self._deliver(self.waiting.pop(0))
            run = self._read()
            if run.state == "running":
                self._watch()
                assert self.waiting or self._read().state != "running", "the run stands still, and nothing says why"
            elif run.state in UNFINISHED:
                self._resume()
            else:
                break
        run = self._read()
        assert run.state in ({"complete", "cancelled"} if self.may_cancel else {"complete"})
        self._check_the_end(run)

    def _check_the_end(self, run: Run) -> None:
        passed = [
            lead
            for lane in run.lanes
            if lane.cursor is not None
            for lead in self.laboratory.after(lane.bounds.lower, lane.cursor)
        ]
        if run.state == "complete":
            uppers = [lane.bounds.upper for lane in run.lanes]
            assert [lane.cursor for lane in run.lanes] == uppers
            known = set(self.before.leads)
            until_the_last = set(self.laboratory.after(self.order.cursor)) & known
            assert set(passed) & known == until_the_last, "leads were skipped"
        untouched = [lead for lead in passed if lead in self.before.leads and lead not in self.touched]
        fated = oracle.fates(self.before, self.order.rules, untouched)
        span = Span(self.began, self.laboratory.now())
        left = oracle.differences(
            self.before, self.laboratory.snapshot(), fated, span, delay_ms=self.order.delay_ms, exempt=self.touched
        )
        assert left == []
        assert {lead for lead in untouched if self.enqueued[lead]} == {
            lead for lead, what in fated.items() if what in ENQUEUED
        }
        if self.order.delay_ms:
            started_at = naive_utc(run.started_at)
            assert sorted(self.due) == oracle.due_times(started_at, self.order.delay_ms, len(self.due))
        verified = self.laboratory.verify(run, rows=self.order.rows)
        assert verified.contradictions == ()
        assert set(verified.missing) <= self.shaken - self.arrived
        assert self.laboratory.keys_kept_for_ever() == [], "Redis keeps for ever what nobody needs"

    # ------------------------------------------------------------ what our processes do

    @property
    def _run(self) -> RunId:
        assert self.run is not None
        return self.run

    def _read(self) -> Run:
        return self.runs.read(self._run)

    def _deliver(self, message: PageMessage, *, dies_after: int | None = None) -> bool:
        """Deliver a message to a process; return whether it survived."""
        before = self._read()
        lane = before.lanes[message.lane - 1]
        may_move = self._batch_lane() in {None, message.lane}
        step = self._act(lambda: self.runs.chain.step(message), dies_after=dies_after)
        after = self._read()
        is_next = (message.generation, message.page) == (lane.generation, lane.page + 1)
        if before.state != "running" or lane.state != "running" or not is_next:
            assert after.pages == before.pages, "a message did a page that was not its own to do"
        if step is None:
            self.lost_processes[message.lane, message.page] += 1
        elif is_next and before.state == lane.state == "running":
            assert step.outcome in ({"committed", "stopped"} if may_move else {"inactive"})
        return step is not None

    def _batch_lane(self) -> int | None:
        """Return the only lane that a single batch may move now; None: all may."""
        return self._ask("SELECT batch_lane FROM backfill.run WHERE id = :run")

    def _pages_that_read(self) -> int:
        """Return how many pages had anything to read; a single batch doesn't count the others."""
        query = "SELECT count(*) FROM backfill.page WHERE run_id = :run AND (counts ->> 'read')::int > 0"
        return self._ask(query) or 0

    def _ask(self, query: str) -> int | None:
        with self.runs.engine.begin() as connection:
            found: int | None = connection.execute(text(query), {"run": self._run}).scalar_one()
        return found

    def _command(self, command: Callable[[], bool]) -> bool | None:
        """Run an operator's command; return None if the run's state no longer allows it."""
        try:
            return command()
        except IllegalTransitionError:
            return None

    def _watch(self, *, dies_after: int | None = None) -> None:
        sent = {message.task_id for message in self.waiting}
        before = list(self.waiting)
        lost = self._act(
            lambda: Watchdog(self.runs.engine, self.runs.chain).look(stalled_seconds=0, on_their_way=lambda: sent),
            dies_after=dies_after,
        )
        for lane in lost or ():
            assert lane.awaited.task_id not in sent, f"{lane} was seeded again, and its message was not lost: {before}"

    def _act(self, action: Callable[[], T], *, dies_after: int | None = None) -> T | None:
        """Let one of our processes act, and check what it did; return None if it died."""
        cancelled = self._read().state == "cancelled"
        did = self.did.copy()
        answer: T | None = None
        try:
            with self.reaper.after(dies_after):
                answer = action()
        except Died as died:
            note(f"died, and did not come to: {died}")
        self._look_at_what_was_done()
        assert not cancelled or did == self.did, "a cancelled run goes on"
        return answer

    def _look_at_what_was_done(self) -> None:
        """Determine from the rows what the run has done, and check the ledger against it."""
        old, old_versions = self.now, self.versions
        self.now, self.versions = self.laboratory.snapshot(), self._versions()
        assert old.leads.keys() == self.now.leads.keys()
        assert old.jobs.keys() <= self.now.jobs.keys()
        for job, row in self.now.jobs.items():
            if self.versions[f"job {job}"] == old_versions.get(f"job {job}"):
                continue
            assert row["dedupeKey"] == oracle.our_key(row["leadId"]), f"a job that is not ours was changed: {row}"
            self.enqueued[row["leadId"]] += 1
            self.due.append(row["runAt"])
            assert self.enqueued[row["leadId"]] == 1, f"lead {row['leadId']!r} was enqueued twice by one run"
            status = old.jobs[job]["status"] if job in old.jobs else None
            assert status != "RUNNING", f"a RUNNING job was reset: {old.jobs[job]}"
            self.did["inserted" if status is None else "refreshed" if status == "PENDING" else "requeued"] += 1
        scored = [lead for lead in self.now.leads if self.versions[f"lead {lead}"] != old_versions[f"lead {lead}"]]
        for lead in scored:
            assert self.now.leads[lead]["sentimentTag"] in oracle.DISQUALIFYING
        self.did["disqualified"] += len(scored)
        self._look_at_the_ledger()

    def _look_at_the_ledger(self) -> None:
        run = self._read()
        done = {name: self.did[name] for name in (*ENQUEUED, "disqualified")}
        assert {name: run.counts.get(name, 0) for name in done} == done, "the ledger counts what was not done"
        assert run.counts.get("read", 0) == sum(run.counts.get(name, 0) for name in READ)
        if self.batch_ends_at is not None:
            assert self._pages_that_read() <= self.batch_ends_at, "a single batch was more than one page that reads"
        for lane in run.lanes:
            found = self.runs.chain.live.read(run.id, lane.number)
            if found is not None and found.generation == lane.generation:
                assert found.page <= lane.page, "Redis is ahead of the ledger"
            assert (lane.state == "done") == (lane.cursor == lane.bounds.upper)
            if lane.state == "failed":
                page = (lane.number, lane.page + 1)
                assert page in self.given_up or self.lost_processes[page] >= MOST_ATTEMPTS, f"{lane} failed"
        for message in self.sent:
            lane = run.lanes[message.lane - 1]
            assert message.generation < lane.generation or message.page <= lane.page + 1, "a lane has split"

    # ------------------------------------------------------------ what the host does

    def _lead(self, index: int) -> str:
        leads = list(self.now.leads)
        return leads[index % len(leads)]

    def _host_changed(self, lead: str, *, shaken: bool) -> None:
        self.touched.add(lead)
        if shaken:
            self.shaken.add(lead)
        self.now, self.versions = self.laboratory.snapshot(), self._versions()

    def _versions(self) -> dict[str, str]:
        """Return which transaction wrote each lead and each job."""
        statement = """
            SELECT 'lead ' || id, xmin::text FROM "Lead"
            UNION ALL
            SELECT 'job ' || id, xmin::text FROM "BackgroundJob"
        """
        return dict(self.laboratory.host_connection.execute(statement).fetchall())


def test_no_sequence_of_faults_enqueues_a_lead_twice_or_skips_one(laboratory: Laboratory) -> None:
    class Here(Faults):
        pass

    Here.laboratory = laboratory
    run_state_machine_as_test(Here, settings=tried(40, steps=40))
