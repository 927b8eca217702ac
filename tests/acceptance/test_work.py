"""`backfill work`: scoring with real workers on a queue of their own, by a scorer of another package."""

import os
from collections.abc import Callable, Iterator

import packages
import psycopg
import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from acceptance.test_json import documented
from harness import Backfill, Worker, wait_for

SOURCE = """
from backfill_tasks.scoring.contract import Score, Scorer, Usage

class Three(Scorer):
    name = "three"
    model = None

    def upper_bound(self, conversation):
        return Usage()

    async def score(self, conversation):
        return Score(3, 3, 3, "always three")

class Paid(Three):
    name = "paid"
    model = "gpt-5-nano"

    def upper_bound(self, conversation):
        return Usage(1_000, 100)

    async def score(self, conversation):
        return Score(3, 3, 3, "paid", Usage(1_000, 100))
"""


@pytest.fixture
def scoring(backfill: Backfill, inhabited: Host) -> Backfill:
    """The command, and the workers it starts, with two scorers, on a host whose runner holds no job."""
    inhabited.execute("DELETE FROM \"BackgroundJob\" WHERE status = 'RUNNING'")
    folder = backfill.directory / "packages"
    folder.mkdir()
    entries = {"three": "acme_scorers:Three", "paid": "acme_scorers:Paid"}
    packages.install(folder, "acme-scorers", entries, group="backfill.scorers", acme_scorers=SOURCE)
    return backfill.set(
        PYTHONPATH=os.pathsep.join([str(folder), *filter(None, [backfill.environment.get("PYTHONPATH")])])
    )


@pytest.fixture
def start_scorer(scoring: Backfill) -> Iterator[Callable[..., Worker]]:
    """Starts workers that take batches only."""
    started: list[Worker] = []

    def start(*, beat: bool = False) -> Worker:
        queue = f"{scoring.environment.get('BACKFILL_QUEUE', 'backfill')}.scoring"
        started.append(Worker.start(scoring, options=("-Q", queue), beat=beat))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def count(backfill: Backfill, query: str) -> int:
    with psycopg.connect(backfill.database_url) as connection:
        (found,) = connection.execute(query.encode()).fetchone() or (0,)
        return int(found)


def test_unscored_leads_become_scored_leads(
    scoring: Backfill, worker: Worker, start_scorer: Callable[..., Worker]
) -> None:
    run = scoring.json("run", "--apply", "--score-here")
    start_scorer()

    done = scoring.json("work", "--scorer", "three", "--until-done", "--batch", "200")

    enqueued = sum(run["counts"][name] for name in ("inserted", "requeued", "refreshed"))
    assert (done["state"], done["counts"]["failed"], done["counts"]["lost"]) == ("complete", 0, 0)
    assert done["counts"]["scored"] >= enqueued > 0
    assert count(scoring, 'SELECT count(*) FROM "Lead" WHERE "scoreReasoning" = \'always three\'') >= enqueued
    assert scoring("verify").returncode == 0


def test_a_finished_session_draws_the_scores_of_the_newest_run_in_80_columns(
    scoring: Backfill, worker: Worker, start_scorer: Callable[..., Worker]
) -> None:
    run = scoring.json("run", "--apply", "--score-here")
    start_scorer()

    done = scoring("work", "--scorer", "three", "--until-done")

    enqueued = sum(run["counts"][name] for name in ("inserted", "requeued", "refreshed"))
    assert f"Scores of run {run['run_id']}: {enqueued + run['counts']['disqualified']:,} leads in " in done.stdout
    assert f"  {enqueued:,} scored here, {run['counts']['disqualified']:,} disqualified by their tag." in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_pages_and_batches_have_workers_of_their_own(
    scoring: Backfill, worker: Worker, start_scorer: Callable[..., Worker]
) -> None:
    scorer = start_scorer()
    scoring.json("run", "--apply", "--score-here")
    scoring.json("work", "--scorer", "three", "--until-done")

    assert "batch " not in worker.output
    assert "page committed" not in scorer.output


def test_the_budget_ends_a_session(scoring: Backfill, worker: Worker, start_scorer: Callable[..., Worker]) -> None:
    scoring.json("run", "--apply", "--score-here")
    start_scorer()

    # A request costs 50 millionths for its input and 40 for its output.
    done = scoring.json("work", "--scorer", "paid", "--max-spend", "0.00095", status=4)

    assert (done["state"], done["spent_micros"], done["requests"]) == ("exhausted", 900, 10)
    assert count(scoring, 'SELECT count(*) FROM "Lead" WHERE "scoreReasoning" = \'paid\'') == 10


def test_a_session_without_a_worker_says_so_and_can_be_stopped(scoring: Backfill) -> None:
    started = scoring("work", "--scorer", "three", "--detach")

    assert started.returncode == 0
    assert "No worker takes batches. Start one: backfill worker -Q backfill.scoring" in started.stderr
    shown = scoring.json("work", "--status")
    assert shown["state"] == "running"
    assert set(shown) == documented("Scoring here")
    assert scoring.json("work", "--stop")["state"] == "stopped"
    assert "was stopped already" in scoring("work", "--stop").stderr


def test_a_killed_worker_s_jobs_are_scored_by_another(
    scoring: Backfill, worker: Worker, start_scorer: Callable[..., Worker]
) -> None:
    scoring.json("run", "--apply", "--score-here")
    scoring("work", "--scorer", "three", "--detach", "--parallel", "1", "--batch", "1", "--until-done")
    first = start_scorer()
    wait_for(lambda: scoring.json("work", "--status")["counts"]["scored"], what="a lead to be scored")
    first.kill()
    start_scorer(beat=True)

    wait_for(lambda: scoring.json("work", "--status")["batches"] > 50, what="batches to go on")


def test_a_scorer_is_compared_with_existing_scores(scoring: Backfill) -> None:
    found = scoring.json("work", "--scorer", "three", "--compare")

    assert found["all"]["compared"] > 0
    assert found["all"]["exact"] < found["all"]["within_one"] <= found["all"]["compared"]
    assert "within one" in scoring("work", "--scorer", "rules", "--compare").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scorer", "nobody"), "no package brings a scorer 'nobody'"),
        (("--scorer", "paid"), "set a budget with --max-spend"),
        (("--scorer", "three", "--batch", "0"), "batch: 0 is not a whole number from 1 to"),
        (("--scorer", "three", "--max-spend", "nan"), "is not an amount of money"),
        (("--scorer", "three", "--max-spend", "-1"), "is not an amount of money"),
        (("--stop", "--status"), "contradict each other"),
        (("--status",), "ledger does not exist yet"),
    ],
)
def test_a_wrong_command_line_is_refused(scoring: Backfill, arguments: tuple[str, ...], says: str) -> None:
    done = scoring("work", *arguments)

    assert says in done.stderr
    assert_refused(done, status=1 if "ledger" in says else 2)
