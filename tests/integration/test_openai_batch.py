"""Scoring through the Batch API: each request is paid for once, whatever dies, and what fails goes back."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from integration.site import Site
from scoring.batch_server import BatchServer, answered, dropped, expired, refused, serving_batches
from scoring.batch_step import PLACE, RESULT, STEPS
from scoring.samples import MARKERS, conversation, marked

from backfill_tasks import settings
from backfill_tasks.scoring import prices, sessions
from backfill_tasks.scoring.contract import RefusedError, RetryableError, Score, Usage
from backfill_tasks.scoring.openai_batch import Back, BatchScorer, Collected, ledger

ROOT = Path(__file__).parents[2]
LEADS = [replace(conversation("Call me, please."), job=f"lead-{number}") for number in range(6)]
JOBS = tuple(sorted(each.job for each in LEADS))


@pytest.fixture
def provider() -> Iterator[BatchServer]:
    with serving_batches() as made:
        yield made


@pytest.fixture
def variables(site: Site, provider: BatchServer) -> dict[str, str]:
    site.host.do("DELETE FROM backfill.batch")
    site.host.do(
        "INSERT INTO backfill.scoring (id, scorer, state, parameters, started_by)"
        " VALUES ('session', 'openai-batch', 'stopped', '{}', 'test') ON CONFLICT DO NOTHING"
    )
    return {
        "DATABASE_URL": site.url,
        "OPENAI_API_KEY": f"key-{secrets.token_hex(8)}",
        "OPENAI_BASE_URL": provider.url,
    }


@pytest.fixture
def scorer(site: Site, variables: dict[str, str]) -> BatchScorer:
    return BatchScorer(site.engine, settings.load(variables), PLACE)


def collected(scorer: BatchScorer) -> dict[str, Collected]:
    """Poll, and return what can be collected of all submissions."""
    scorer.poll()
    return {each.job: each for submission in scorer.collectable() for each in scorer.collect(submission)}


def open_jobs(scorer: BatchScorer) -> set[str]:
    return {job for each in scorer.open_submissions() for job in each.bounds}


class TestFlow:
    def test_each_lead_gets_its_score_and_what_it_used(self, scorer: BatchScorer, provider: BatchServer) -> None:
        submission = scorer.submit(LEADS)
        assert submission is not None
        assert (submission.state, submission.jobs) == ("submitted", JOBS)
        assert collected(scorer) == {}

        provider.work()
        found = collected(scorer)

        assert sorted(found) == list(JOBS)
        for job, each in found.items():
            assert isinstance(each.outcome, Score), job
            assert each.usage is not None
            assert (each.outcome.overall, each.outcome.usage) == (3, each.usage)
            assert each.usage.input_tokens * len(LEADS) <= submission.bound.input_tokens
        assert provider.paid == [each.job for each in LEADS]

    def test_the_bound_of_a_submission_is_that_of_its_requests(self, scorer: BatchScorer) -> None:
        first, others = scorer.submit(LEADS[:1]), scorer.submit(LEADS[1:])

        assert first is not None
        assert others is not None
        one, many = first.bound, len(LEADS) - 1
        assert others.bound == Usage(one.input_tokens * many, one.output_tokens * many)
        assert prices.cost(scorer.model, one, batch=True) > 0

    def test_a_job_is_in_one_open_submission_only(self, scorer: BatchScorer) -> None:
        scorer.submit(LEADS[:4])
        second = scorer.submit(LEADS)

        assert second is not None
        assert second.jobs == JOBS[4:]
        assert scorer.submit(LEADS) is None
        assert open_jobs(scorer) == set(JOBS)

    def test_closing_deletes_the_files_and_frees_the_jobs(
        self, site: Site, scorer: BatchScorer, provider: BatchServer
    ) -> None:
        scorer.submit(LEADS)
        provider.work()
        scorer.poll()

        for each in scorer.collectable():
            with site.engine.begin() as connection:
                ledger.written(connection, each.id)
            scorer.close(each)

        assert provider.files == {}
        assert scorer.collectable() == []
        assert open_jobs(scorer) == set()


class TestFailures:
    @pytest.mark.parametrize("verdict", ["expired", "cancelled", "failed"])
    def test_a_batch_that_ends_early_returns_what_it_has_not_done(
        self, scorer: BatchScorer, provider: BatchServer, verdict: str
    ) -> None:
        provider.verdict = verdict
        provider.fate = lambda number, request: [answered, expired, dropped][number % 3](number, request)
        scorer.submit(LEADS)
        provider.work()

        found = collected(scorer)

        back = {job for job, each in found.items() if isinstance(each.outcome, Back)}
        assert back == {"lead-1", "lead-2", "lead-4", "lead-5"}
        assert all(found[job].usage == Usage() and not found[job].outcome.tried for job in back)  # type: ignore[union-attr]
        assert sorted(provider.paid) == ["lead-0", "lead-3"]

    def test_a_request_that_the_provider_refuses_counts_as_an_attempt(
        self, scorer: BatchScorer, provider: BatchServer
    ) -> None:
        provider.fate = refused
        scorer.submit([replace(marked(), job="lead-0")])
        provider.work()

        [found] = collected(scorer).values()

        assert found.outcome == Back("the provider refused this request (400)", tried=True)

    def test_a_cancelled_batch_returns_its_requests(
        self, site: Site, scorer: BatchScorer, provider: BatchServer
    ) -> None:
        scorer.submit(LEADS)
        with site.engine.begin() as connection:
            sessions.cancel_submissions(connection, PLACE.session)

        scorer.poll()

        assert all(isinstance(each.outcome, Back) for each in collected(scorer).values())
        assert provider.paid == []

    def test_a_batch_that_the_provider_has_lost_is_reported_as_ambiguous(
        self, scorer: BatchScorer, provider: BatchServer
    ) -> None:
        scorer.submit(LEADS)
        provider.batches.clear()

        [lost] = scorer.poll()

        assert (lost.state, lost.ambiguous, lost.jobs) == ("lost", len(LEADS), JOBS)
        assert open_jobs(scorer) == set()

    @pytest.mark.parametrize("step", ["POST /files", "POST /batches"])
    def test_a_refused_submission_is_unmade(self, scorer: BatchScorer, provider: BatchServer, step: str) -> None:
        provider.failing[step] = 401

        with pytest.raises(RefusedError, match="set OPENAI_API_KEY"):
            scorer.submit(LEADS)

        assert open_jobs(scorer) == set()
        assert provider.files == {}

    @pytest.mark.parametrize("step", ["POST /files", "POST /batches"])
    def test_a_passing_failure_leaves_the_submission_to_be_recovered(
        self, scorer: BatchScorer, provider: BatchServer, step: str
    ) -> None:
        provider.failing[step] = 503
        submission = scorer.submit(LEADS)
        assert submission is not None
        assert submission.state == "submitting"

        [recovered] = scorer.recover()

        assert recovered.state == "unmade"
        assert provider.files == {}
        assert open_jobs(scorer) == set()

    def test_nothing_is_given_up_while_the_provider_can_t_be_asked(
        self, scorer: BatchScorer, provider: BatchServer
    ) -> None:
        provider.failing.update({"POST /batches": 503, "GET /batches": 503})
        scorer.submit(LEADS)

        with pytest.raises(RetryableError):
            scorer.recover()

        assert open_jobs(scorer) == set(JOBS)

    def test_a_worker_that_was_taken_for_dead_makes_no_batch(
        self, scorer: BatchScorer, provider: BatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = scorer.provider.upload

        def slow_upload(name: str, content: bytes) -> str:
            file_id = upload(name, content)
            scorer.recover()  # by another worker
            return file_id

        monkeypatch.setattr(scorer.provider, "upload", slow_upload)

        submission = scorer.submit(LEADS)

        assert submission is not None
        assert submission.state == "unmade"
        assert (provider.batches, provider.files) == ({}, {})

    def test_a_worker_that_was_taken_for_dead_later_can_t_create_its_batch(
        self, scorer: BatchScorer, provider: BatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = scorer.provider.create

        def slow_create(*arguments: str) -> object:
            scorer.recover()  # by another worker
            return create(*arguments)

        monkeypatch.setattr(scorer.provider, "create", slow_create)

        submission = scorer.submit(LEADS)

        assert submission is not None
        assert (submission.state, provider.batches) == ("unmade", {})


#: The points between two effects, one on the provider and one on the ledger: the others add little to them.
BETWEEN = {
    "after:record",
    "after:upload",
    "before:create",
    "after:create",
    "after:delete",
    "before:ended",
    "before:close",
}

#: Every step of a pass, before and after.
POINTS = [
    pytest.param(point, marks=() if point in BETWEEN else pytest.mark.long)
    for point in (f"{when}:{name}" for name in STEPS for when in ("before", "after"))
]

#: Steps that only a recovery comes to: an earlier kill must have made it necessary.
RECOVERY = {"find", "files", "delete", "give_up"}

Pass = Callable[[str], int]


@pytest.fixture(scope="module")
def passes() -> Iterator[subprocess.Popen[str]]:
    """The process that forks one worker for each pass."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BACKFILL_", "OPENAI_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests/scoring/batch_step.py")],
        env={**environment, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@pytest.fixture
def do_pass(passes: subprocess.Popen[str], variables: dict[str, str], site: Site) -> Pass:
    """Does one pass of a worker, which kills itself at a point, and returns its exit status."""
    site.host.do(RESULT)
    site.host.do("DELETE FROM backfill.result")
    assert passes.stdin is not None
    assert passes.stdout is not None
    asked, answers = passes.stdin, passes.stdout

    def do(point: str) -> int:
        asked.write(json.dumps({"point": point, "leads": len(LEADS), "variables": variables}) + "\n")
        asked.flush()
        return int(answers.readline())

    return do


class TestKills:
    @pytest.mark.parametrize("point", POINTS)
    def test_each_lead_is_paid_for_once(self, site: Site, provider: BatchServer, do_pass: Pass, point: str) -> None:
        struck = 0
        if point.split(":")[1] in RECOVERY:
            do_pass("before:create")
        for _ in range(6):
            struck += do_pass(point) == -signal.SIGKILL
            provider.work()
            if struck == 2:
                break
        for _ in range(4):
            assert do_pass("never") == 0
            provider.work()

        [ambiguous] = site.host.values("SELECT coalesce(sum(ambiguous), 0)::int FROM backfill.batch")
        assert struck > 0
        assert ambiguous == 0
        assert sorted(provider.paid) == list(JOBS)
        assert len(site.host.rows("SELECT FROM backfill.result WHERE overall = 3")) == len(LEADS)


def test_the_ledger_has_nothing_of_a_conversation(scorer: BatchScorer, provider: BatchServer, site: Site) -> None:
    scorer.submit([replace(marked(), job="lead-0")])
    provider.work()
    collected(scorer)

    rows = "\n".join(
        str(row)
        for table in ("batch", "batch_request")
        for row in site.host.rows(f"SELECT to_jsonb(t)::text FROM backfill.{table} AS t")
    )

    assert "lead-0" in rows
    assert [each for each in MARKERS if each in rows] == []
