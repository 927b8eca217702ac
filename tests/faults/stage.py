"""The stage for faults: an audited host database, the command, beat, and workers with a saboteur."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fork_server
import psycopg
import redis
from celery import Celery
from harness import Backfill, Worker, wait_for, wait_while_moving
from psycopg.rows import dict_row

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine import ledger
from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.engine.model import MESSAGE_FORMAT, PageMessage, RunId
from backfill_tasks.engine.verification import Verification, Verifier
from sandbox.host.sample import Sample

CLASSES = ("inserted", "requeued", "refreshed", "in_flight", "disqualified")
HERE = Path(__file__).parent

#: Short, so that a lane with a lost task is detected within seconds.
ATTENTIVE: Mapping[str, str] = {"BACKFILL_STANDING_SECONDS": "1", "BACKFILL_WATCHDOG_SECONDS": "1"}

Action = Literal["kill child", "kill worker", "block"]


@dataclass(frozen=True)
class Sabotage:
    """Plans for the saboteur: the action to take when a page reaches a step. saboteur.py names the steps."""

    folder: Path

    def plan(
        self, step: str, action: Action, *, page: int | None = None, lane: int | None = None, always: bool = False
    ) -> None:
        """Make the next page that reaches a step, or only this page, kill its process or its worker, or wait there."""
        self._plan(step).with_suffix(".reached").unlink(missing_ok=True)
        draft = self.folder / f"{step}.draft"
        draft.write_text(json.dumps({"action": action, "page": page, "lane": lane, "always": always}))
        draft.rename(self._plan(step))

    def wait_until_reached(self, step: str) -> None:
        wait_for(self._plan(step).with_suffix(".reached").exists, what=f"a page to reach the step {step!r}")

    def release(self, step: str) -> None:
        """Release a page that waits at a step."""
        self._plan(step).with_suffix(".reached").unlink()

    def clear(self) -> None:
        """Drop all plans and release every waiting page."""
        for file in self.folder.iterdir():
            file.unlink()

    def _plan(self, step: str) -> Path:
        return self.folder / f"{step}.plan"


@dataclass(frozen=True)
class Beat:
    """A `celery -A backfill_tasks beat`, which sends the watchdog."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(cls, backfill: Backfill) -> "Beat":
        log = backfill.directory / f"beat-{len(list(backfill.directory.glob('beat-*.log'))) + 1}.log"
        with log.open("wb") as output:
            process = fork_server.Process(
                [
                    Path(sys.executable).parent / "celery",
                    "-A",
                    "backfill_tasks",
                    "beat",
                    "--schedule",
                    backfill.directory / "beat-schedule",
                    "--pidfile=",
                ],
                cwd=backfill.directory,
                env=dict(backfill.environment),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def output(self) -> str:
        """Everything it has logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Following:
    """A `backfill run` in the background that follows its run."""

    process: "subprocess.Popen[str]"
    progress: Callable[[], object]

    def end(self, *, status: int = 0) -> dict[str, Any]:
        """Wait for its end while the run progresses, assert its exit status, and return its object."""
        output, errors = self._read()
        assert self.process.returncode == status, f"exit status {self.process.returncode}: {errors}{output}"
        content: dict[str, Any] = json.loads(output)
        return content

    def _read(self) -> tuple[str, str]:
        def read() -> tuple[str, str] | None:
            try:
                return self.process.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                return None

        found = wait_while_moving(read, what="the run to end", progress=self.progress)
        assert found is not None
        return found


@dataclass
class Stage:
    """An audited host database and the command, with tools to inject faults and check the results."""

    backfill: Backfill
    sample: Sample
    sabotage: Sabotage
    workers: list[Worker] = field(default_factory=list)
    followers: list["subprocess.Popen[str]"] = field(default_factory=list)

    # ---- acting

    def start_worker(self, *, concurrency: int = 2, beat: bool = False) -> Worker:
        """Start a worker with the saboteur."""
        worker = self.launch_worker(concurrency=concurrency, beat=beat)
        worker.wait_until_ready()
        return worker

    def launch_worker(self, *, concurrency: int = 2, beat: bool = False) -> Worker:
        """Start a worker without waiting until it takes messages."""
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        worker = Worker.launch(
            self.backfill,
            concurrency=concurrency,
            beat=beat,
            app="saboteur",
            environment={"PYTHONPATH": path, "SABOTAGE": str(self.sabotage.folder)},
        )
        self.workers.append(worker)
        return worker

    def staff(self, number: int) -> None:
        """Start workers until this many are alive."""
        self.workers = [worker for worker in self.workers if worker.process.poll() is None]
        for _ in range(number - len(self.workers)):
            self.start_worker()

    def keep_workers(self, number: int) -> list[Worker]:
        """Stop all workers except this many, and return the remaining ones."""
        for worker in self.workers[number:]:
            worker.stop()
        self.staff(number)
        return self.workers

    def replace_the_killed_worker(self) -> None:
        """Wait until the killed worker has ended, and start another in its place."""
        number = len(self.workers)
        wait_for(lambda: any(worker.process.poll() is not None for worker in self.workers), what="a worker to end")
        self.staff(number)

    def run(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Complete a run in pages of 50 leads."""
        return self.follow(*arguments).end(status=status)

    def follow(self, *arguments: str) -> Following:
        """Start a run in pages of 50 leads and let the command follow it."""
        return self._popen("run", "--apply", "--limit", "50", *arguments)

    def resume(self, *, status: int = 0) -> dict[str, Any]:
        """Resume the run and follow it to its end."""
        return self.resume_and_follow().end(status=status)

    def watch(self) -> dict[str, Any]:
        """Follow the existing run to its end."""
        return self._popen("watch").end()

    def resume_and_follow(self) -> Following:
        return self._popen("run", "--resume")

    def _popen(self, *arguments: str) -> Following:
        process = self.backfill.popen(*arguments, "--json")
        self.followers.append(process)
        return Following(process, self.progress)

    def progress(self) -> object:
        """Return a value that changes while a run progresses: its pages, its events and the workers' logs."""
        ledger: object = None  # PostgreSQL may be down, and the ledger may not exist yet
        with suppress(psycopg.Error):
            ledger = self.rows(
                "SELECT (SELECT count(*) FROM backfill.page) AS pages, (SELECT count(*) FROM backfill.event) AS events"
            )
        return ledger, sum(worker.log.stat().st_size for worker in self.workers)

    def deliver(self, message: PageMessage, *, times: int = 1) -> None:
        """Put a page's message into the queue, like a broker's redelivery."""
        values = {"run": message.run, "lane": message.lane, "page": message.page, "generation": message.generation}
        self._send("backfill.page", times, kwargs=values, task_id=message.task_id)

    def deliver_newer(self, version: int, task_id: str, **fields: Any) -> None:
        """Put a page's message in a newer format into the queue."""
        self._send("backfill.page", 1, kwargs=fields, task_id=task_id, headers={"backfill_format": version})

    def send_watchdog(self) -> None:
        """Send the watchdog's message, as beat does."""
        self._send("backfill.watchdog", 1)

    def _send(self, task: str, times: int, **message: Any) -> None:
        with Celery(broker=self.backfill.environment["REDIS_URL"], set_as_current=False) as sender:
            for _ in range(times):
                sender.send_task(task, queue=self.queue, **message)

    def restore(self) -> None:
        """Restore the host database and clear the ledger."""
        self.sabotage.clear()
        with psycopg.connect(self.backfill.database_url, autocommit=True) as connection:
            connection.execute((HERE / "restore.sql").read_bytes())

    def close(self) -> None:
        """Kill all processes at once."""
        for process in self.followers:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    # ---- reading

    @property
    def queue(self) -> str:
        return self.queue_of_format(MESSAGE_FORMAT)

    def queue_of_format(self, version: int) -> str:
        return f"{self.backfill.environment['BACKFILL_QUEUE']}.v{version}"

    @contextmanager
    def redis(self) -> Iterator["redis.Redis"]:
        with redis.Redis.from_url(self.backfill.environment["REDIS_URL"], decode_responses=True) as client:
            yield client

    @contextmanager
    def database(self) -> "Iterator[psycopg.Connection[dict[str, Any]]]":
        """A separate connection, in autocommit."""
        with psycopg.connect(self.backfill.database_url, autocommit=True, row_factory=dict_row) as connection:
            yield connection

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        with self.database() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def the_run(self) -> RunId:
        """Wait for the only run to exist, and return its id."""
        found = wait_for(lambda: self.rows("SELECT id FROM backfill.run"), what="a run to be in the ledger")
        return RunId(found[-1]["id"])

    def wait_for_pages(self, number: int) -> RunId:
        """Wait until this many pages are committed, and return the run."""
        run = self.the_run()
        wait_for(lambda: len(self.rows("SELECT FROM backfill.page")) >= number, what=f"{number} pages")
        return run

    def has_job(self, lead: str) -> bool:
        return bool(self.rows('SELECT FROM "BackgroundJob" WHERE "dedupeKey" = %s', f"lead_scoring_backfill:{lead}"))

    def job(self, lead: str) -> dict[str, Any]:
        (row,) = self.rows('SELECT * FROM "BackgroundJob" WHERE "dedupeKey" = %s', f"lead_scoring_backfill:{lead}")
        return row

    def events(self, name: str) -> list[dict[str, Any]]:
        return [row["detail"] for row in self.rows("SELECT detail FROM backfill.event WHERE name = %s", name)]

    def logs(self) -> str:
        """Everything that all workers have logged."""
        return "".join(worker.output for worker in self.workers)

    def queued(self, run: RunId) -> list[str]:
        """Return the run's messages in the queue."""
        with self.redis() as client:
            queued: Any = client.lrange(self.queue, 0, -1)
        return [message for message in queued if f"{run}:lane-" in message]

    def taken(self, run: RunId) -> list[str]:
        """Return the run's unacknowledged messages."""
        with self.redis() as client:
            taken: Any = client.hvals("unacked")
        return [message for message in taken if f"{run}:lane-" in message]

    def wait_until_quiet(self, run: RunId) -> None:
        """Wait until every message of a run is handled."""
        wait_for(lambda: not self.queued(run) and not self.taken(run), what="the run's messages to be dealt with")

    def blocked(self) -> list[str]:
        """Return the backfill's statements that are blocked by a lock."""
        rows = self.rows(
            "SELECT query FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'backfill' AND wait_event_type = 'Lock'"
        )
        return [row["query"] for row in rows]

    def lane(self, number: int = 1) -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM backfill.lane WHERE number = %s", number)
        return row

    def wait_until_stalled(self, *numbers: int) -> None:
        """Wait until the watchdog would call these lanes stalled."""
        query = (
            "SELECT FROM backfill.lane WHERE number = ANY (%s)"
            " AND greatest(moved_at, held_until) < now() - interval '1 s'"
        )
        wait_for(lambda: len(self.rows(query, list(numbers))) == len(numbers), what=f"lanes {numbers} to stand")

    def owed(self, what: str) -> list[str]:
        """Return the ids of the leads to which a run owes a `job` or a `score`, in lane order."""
        return [row["lead"] for row in self.rows("SELECT lead FROM audit.owed WHERE what = %s ORDER BY lead", what)]

    # ---- asserting

    def assert_done_once(self, run: dict[str, Any], *, except_for: frozenset[str] = frozenset()) -> None:
        """Assert that every lead got an undisturbed run's result exactly once, and that the ledger agrees."""
        wronged = self.rows("SELECT * FROM audit.wronged")
        assert [row for row in wronged if row["lead"] not in except_for] == []
        if not except_for:
            counts = {name: run["counts"][name] for name in ("read", *CLASSES, "quarantined")}
            wanted = {name: getattr(self.sample, name) for name in CLASSES}
            assert counts == {"read": self.sample.eligible, **wanted, "quarantined": 0}
        self.assert_unsplit(run)
        verified = self.verify(RunId(run["run_id"]))
        assert not verified.wrong, verified

    def verify(self, run: RunId) -> Verification:
        """Return the findings of `backfill verify`, without starting a process."""
        engine = connect(parse_url(self.backfill.database_url))
        try:
            with engine.begin() as connection:
                found = ledger.read_run(connection, run)
            assert found is not None
            return Verifier(engine, LeadScoring(), statement_ms=15_000).verify(found)
        finally:
            engine.dispose()

    def assert_unsplit(self, run: dict[str, Any]) -> None:
        """Assert that each lane is one unbroken sequence of pages, and that none of the run's messages are left."""
        for lane in run["lanes"]:
            pages = self.rows(
                "SELECT number, lower, cursor FROM backfill.page WHERE run_id = %s AND lane = %s ORDER BY number",
                run["run_id"],
                lane["number"],
            )
            assert [page["number"] for page in pages] == list(range(1, lane["pages"] + 1))
            assert [page["lower"] for page in pages] == [
                lane["bounds"]["lower"],
                *(page["cursor"] for page in pages[:-1]),
            ]
            assert pages[-1]["cursor"] == lane["cursor"] == lane["bounds"]["upper"]
        wait_for(lambda: not self.queued(RunId(run["run_id"])), what="the queue to be empty of the run's messages")


#: Makes a stage, with the arguments of the fixture `make_stage`.
MakeStage = Callable[..., Stage]
