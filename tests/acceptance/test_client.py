"""The Python API does the same as the command line."""

import json
import subprocess
import sys
from dataclasses import replace
from textwrap import dedent
from typing import Any

import pytest
from acceptance.host import Host
from harness import PATIENCE, UNBOUNDED, Backfill, Worker
from long_forms import long

from sandbox.host.sample import Sample


def program(backfill: Backfill, text: str) -> Any:
    """Run a program that has a client, and return its value of `answer`."""
    code = f"import json\nfrom backfill_tasks import Client\nclient = Client.from_env()\n{dedent(text)}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(json.dumps(answer))"],
        cwd=backfill.directory,
        env=dict(backfill.environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plan_has_the_dry_runs_counts(backfill: Backfill, sample: Sample) -> None:
    read, jobs, cost = program(
        backfill,
        """
        plan = client.plan("lead-scoring", cost_per_job=0.5)
        answer = plan.run.counts["read"], plan.jobs, plan.cost
        """,
    )

    assert (read, jobs) == (sample.eligible, sample.inserted + sample.requeued)
    assert cost == jobs / 2


def test_a_run_can_be_started_followed_and_verified(backfill: Backfill, worker: Worker, sample: Sample) -> None:
    states, counts, clean = program(
        backfill,
        """
        run = client.start("lead-scoring", limit=100, max_pending=None)
        seen = list(client.watch(run.id))
        answer = [each.run.state for each in seen], seen[-1].run.counts, client.verify(run.id).clean
        """,
    )

    assert states[-1] == "complete"
    assert counts["read"] == sample.eligible
    assert clean


def test_a_run_without_options_has_the_command_lines_bounds(alone: Backfill) -> None:
    plain = replace(
        alone, environment={name: each for name, each in alone.environment.items() if name not in UNBOUNDED}
    )
    from_python = program(plain, 'answer = client.start("lead-scoring").parameters.as_json()')

    from_the_command_line = plain.json("run", "--apply", "--detach", "--force")["parameters"]

    assert from_python == from_the_command_line
    assert (from_python["max_pending"], from_python["max_live_wait"], from_python["target_page_ms"]) == (
        "auto",
        180,
        200,
    )


def test_a_run_can_be_paused_tuned_resumed_and_cancelled(alone: Backfill) -> None:
    states, tuned = program(
        alone,
        """
        run = client.start("lead-scoring").id
        states = [client.pause(run).state]
        tuned = client.tune(run, max_pending=18)
        client.resume(run)
        answer = [*states, client.run(run).state, client.cancel(run).state], tuned
        """,
    )

    assert states == ["paused", "running", "cancelled"]
    assert tuned == {"max_pending": [None, 18]}


def test_reasons_are_the_same_as_in_status(alone: Backfill) -> None:
    reasons = program(alone, 'client.pause(client.start("lead-scoring", lanes=1).id)\nanswer = client.reasons()')

    (lane,) = alone.json("status")["lanes"]

    assert reasons == {"1": lane["reason"]}
    assert reasons["1"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('client.plan("lead-scoring", limit=0)', "limit: 0 is not a whole number from 1 to 10000"),
        ('client.plan("lead-scoring", client_ids=["none-such"])', "there is no workspace 'none-such'"),
        ('client.tune("none-such", limit=3)', "there is no run none-such"),
        *long(
            ('client.plan("lead-scoring", limit="5")', "limit: '5' is not a whole number"),
            ('client.plan("lead-scoring", limits=5)', "lead-scoring has no option 'limits'"),
            ('client.plan("message-rollups", max_jobs=5)', "max_jobs: message-rollups enqueues no jobs"),
            ('client.plan("lead-scoring", delay_ms=5, jobs_per_minute=5)', "delay_ms: it contradicts jobs_per_minute"),
            ('client.plan("lead-scorin")', "lead-scorin"),
            ('client.status("none-such")', "there is no run none-such"),
            ('client.tune(client.start("lead-scoring").id, lanes=3)', "lanes can't be tuned"),
            ('client.tune(client.start("lead-scoring").id, limit=0)', "limit: 0 is not a whole number from 1 to 10000"),
        ),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(inhabited: Host, alone: Backfill, call: str, said: str) -> None:
    assert alone("init").returncode == 0

    answer = program(
        alone,
        f"""
        from backfill_tasks.errors import BackfillError
        try:
            {call}
        except BackfillError as error:
            answer = str(error)
        """,
    )

    assert said in answer
    assert "\n" not in answer


def test_importing_the_package_imports_no_libraries(alone: Backfill) -> None:
    heavy = program(
        alone,
        """
        import subprocess, sys
        code = "import sys, backfill_tasks; print([n for n in ('sqlalchemy', 'redis', 'celery') if n in sys.modules])"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        """,
    )

    assert heavy == "[]"
