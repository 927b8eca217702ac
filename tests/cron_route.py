"""The host's cron route as an HTTP server: one that works jobs as the host's runner does, and one that misbehaves."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

SECRET = secrets.token_hex(16)
PATH = "/api/cron/background-jobs"

RELEASE = """
UPDATE "BackgroundJob"
SET status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL, "startedAt" = NULL,
  "lastError" = 'Released stale RUNNING lock', "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE status = 'RUNNING' AND "lockedAt" < now() AT TIME ZONE 'UTC' - interval '10 minutes'
"""

#: The older runner takes the oldest due jobs.
OLDER = """
SELECT id FROM "BackgroundJob"
WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
ORDER BY "runAt" LIMIT %(limit)s
"""

#: The newer one reads four times as many, keeps at most a call's worth per workspace, and takes turns between these.
NEWER = """
SELECT id FROM (
  SELECT id, "runAt", row_number() OVER (PARTITION BY "clientId" ORDER BY "runAt") AS turn
  FROM (
    SELECT id, "runAt", "clientId" FROM "BackgroundJob"
    WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
    ORDER BY "runAt" LIMIT least(4 * %(limit)s, 200)
  ) AS pool
) AS job
WHERE turn <= %(limit)s
ORDER BY turn, "runAt" LIMIT %(limit)s
"""

CLAIM = """
UPDATE "BackgroundJob"
SET status = 'RUNNING', "lockedAt" = now() AT TIME ZONE 'UTC', "lockedBy" = %(by)s, attempts = attempts + 1,
  "startedAt" = now() AT TIME ZONE 'UTC', "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE id = %(id)s AND status = 'PENDING'
"""
FINISH = """
UPDATE "BackgroundJob"
SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL,
  "lastError" = NULL, "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE id = %(id)s
"""
FAIL = """
UPDATE "BackgroundJob"
SET status = CASE WHEN attempts < "maxAttempts" THEN 'PENDING' ELSE 'FAILED' END::"BackgroundJobStatus",
  "runAt" = now() AT TIME ZONE 'UTC' + least(900, 2 ^ attempts) * interval '1 second',
  "finishedAt" = CASE WHEN attempts < "maxAttempts" THEN NULL ELSE now() AT TIME ZONE 'UTC' END,
  "lockedAt" = NULL, "lockedBy" = NULL, "lastError" = 'the provider is down', "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE id = %(id)s
RETURNING status
"""
REMAINING = """
SELECT count(*) FROM "BackgroundJob" WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
"""


@dataclass(frozen=True)
class Reply:
    """What the route answers: a status, a body and headers. `seconds` and `pause`: before it, and between its bytes."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = (("Content-Type", "application/json"),)
    seconds: float = 0.0
    pause: float = 0.0

    @classmethod
    def json(cls, status: int = 200, *headers: tuple[str, str], **content: Any) -> "Reply":
        return cls(status, json.dumps(content).encode(), [("Content-Type", "application/json"), *headers])


def worked(processed: int = 10, *, failed: int = 0, retried: int = 0) -> Reply:
    """Return the answer of a call that did its jobs."""
    return Reply.json(
        success=True,
        mode="inline",
        processed=processed,
        succeeded=processed - failed - retried,
        failed=failed,
        retried=retried,
        skipped=0,
        remaining=0,
        releasedStale=0,
    )


@dataclass
class Route:
    """A cron route on this machine. `answer` makes the reply to a call; requests without the secret get 401."""

    answer: Callable[[], Reply]
    calls: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self) -> Iterator["Route"]:
        """Serve while the block runs."""
        route = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers["Authorization"] != f"Bearer {SECRET}":
                    route.send(self, Reply.json(401, error="Unauthorized"))
                elif self.path != PATH:
                    route.send(self, Reply.json(404, error="Not Found"))
                else:
                    with route._counted():
                        route.send(self, route.answer())

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}{PATH}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        try:
            time.sleep(reply.seconds)
            handler.send_response(reply.status)
            for name, value in reply.headers:
                handler.send_header(name, value)
            handler.end_headers()
            for start in range(0, len(reply.body), 1 if reply.pause else 65_536):
                handler.wfile.write(reply.body[start : start + (1 if reply.pause else 65_536)])
                time.sleep(reply.pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the caller gave up

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self.calls.append(time.monotonic())
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1


@dataclass
class Runner:
    """The host's runner on a database: each call claims due jobs one by one and does them.

    Attributes:
        database_url: the host's database.
        select: how it chooses jobs: OLDER or NEWER.
        limit: the most jobs of a call.
        job_seconds: what a job takes.
        failing: whether jobs fail just now.
        done: the ids of the jobs done, in order, with the calls that did them.
    """

    database_url: str
    select: str = OLDER
    limit: int = 10
    job_seconds: float = 0.0
    failing: bool = False
    done: list[tuple[str, str]] = field(default_factory=list)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self) -> Reply:
        """Do what a call of the cron route does."""
        with self._lock:
            self._number += 1
            by = f"call-{self._number}"
        counts = dict.fromkeys(("succeeded", "failed", "retried", "skipped"), 0)
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            released = connection.execute(RELEASE).rowcount
            jobs = connection.execute(self.select.encode(), {"limit": self.limit}).fetchall()
            for (job,) in jobs:
                counts[self._do(connection, job, by)] += 1
            (remaining,) = connection.execute(REMAINING).fetchone() or (0,)
        processed = len(jobs) - counts["skipped"]
        return Reply.json(
            success=True, mode="inline", processed=processed, remaining=remaining, releasedStale=released, **counts
        )

    def _do(self, connection: "psycopg.Connection[Any]", job: str, by: str) -> str:
        if not connection.execute(CLAIM, {"id": job, "by": by}).rowcount:
            return "skipped"
        time.sleep(self.job_seconds)
        if self.failing:
            (status,) = connection.execute(FAIL, {"id": job}).fetchone() or ("FAILED",)
            return "failed" if status == "FAILED" else "retried"
        connection.execute(FINISH, {"id": job})
        self.done.append((job, by))
        return "succeeded"
