"""A worker that scores in batches: passes in processes of their own, which kill themselves at a named point.

    python batch_step.py

Reads a line of JSON for each pass, with `point`, `leads` and `variables`, and answers with its exit status. A point is
"before" or "after", a colon, and the name of a step, such as `after:create`; or `never`. A pass recovers, polls,
collects and closes what is there, then submits the leads that have no result yet. Results stand in the table `result`.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from scoring.samples import conversation
from sqlalchemy import Engine, text

from backfill_tasks import settings
from backfill_tasks.engine import database
from backfill_tasks.scoring.contract import Score
from backfill_tasks.scoring.openai_batch import Back, BatchScorer, Place, ledger, results
from backfill_tasks.scoring.openai_batch.provider import Provider

#: Where a kill can strike, by name.
STEPS: dict[str, tuple[Any, str]] = {
    "record": (ledger, "record"),
    "bound": (ledger, "bound"),
    "upload": (Provider, "upload"),
    "uploaded": (ledger, "uploaded"),
    "create": (Provider, "create"),
    "submitted": (ledger, "submitted"),
    "find": (Provider, "find"),
    "files": (Provider, "files"),
    "delete": (Provider, "delete"),
    "give_up": (ledger, "give_up"),
    "retrieve": (Provider, "retrieve"),
    "ended": (ledger, "ended"),
    "content": (Provider, "content"),
    "collected": (results, "collected"),
    "write": (sys.modules[__name__], "write"),
    "written": (ledger, "written"),
    "close": (ledger, "close"),
}

#: The slot that all passes belong to.
PLACE = Place("session", 1)

RESULT = "CREATE TABLE IF NOT EXISTS backfill.result (job text PRIMARY KEY, overall integer, ambiguous boolean)"


def write(engine: Engine, job: str, overall: int | None) -> None:
    """Write a lead's score, as its holder does: once."""
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO backfill.result (job, overall) VALUES (:job, :overall) ON CONFLICT DO NOTHING"),
            {"job": job, "overall": overall},
        )


def arm(point: str) -> None:
    """Make the process kill itself at a point."""
    when, _, name = point.partition(":")
    if when == "never":
        return
    owner, attribute = STEPS[name]
    real = getattr(owner, attribute)

    def killing(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, attribute, killing)


def run(point: str, leads: int) -> None:
    """Do one pass."""
    loaded = settings.load()
    engine = database.connect(database.parse_url(loaded.required_database_url()))
    scorer = BatchScorer(engine, loaded, PLACE)
    arm(point)
    scorer.recover()
    scorer.poll()
    for submission in scorer.collectable():
        for each in [] if submission.written else scorer.collect(submission):
            if not isinstance(each.outcome, Back):
                sys.modules[__name__].write(  # type: ignore[attr-defined]
                    engine, each.job, each.outcome.overall if isinstance(each.outcome, Score) else None
                )
        with engine.begin() as connection:
            ledger.written(connection, submission.id)
        scorer.close(submission)
    with engine.begin() as connection:
        done = set(connection.execute(text("SELECT job FROM backfill.result")).scalars())
    left = [f"lead-{number}" for number in range(leads) if f"lead-{number}" not in done]
    if left:
        scorer.submit([replace(conversation("Call me"), job=job) for job in left[:3]])
        scorer.submit([replace(conversation("Call me"), job=job) for job in left])


def main() -> None:
    """Do a pass for each line. The modules are imported once; each pass is a fork."""
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.environ.update(asked["variables"])
            run(asked["point"], asked["leads"])
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
