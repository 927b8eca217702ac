"""The host alongside the run: webhooks that write leads, messages and live jobs, and a runner that drains the queue.

Both bypass the proxies. When PostgreSQL is in trouble they retry later, as a live application does.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psycopg

WEBHOOK_SECONDS = 0.15
RUNNER_SECONDS = 1.0

_SQL = Path(__file__).with_name("sql")
#: One webhook each. A script takes a random number from 0 to 1 that picks its lead, and a token for new ids.
WEBHOOKS = ("lead_arrives", "message_arrives", "message_deleted", "tag_changes", "lead_deleted")
RUNNER = ("runner_releases", "runner_finishes", "runner_claims")


class Client:
    """A session of the host that reconnects after every error."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def execute(self, script: str, **parameters: object) -> bool:
        """Execute a script; return False if PostgreSQL is in trouble."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, application_name="host", connect_timeout=3
                )
            self._connection.execute((_SQL / f"{script}.sql").read_bytes(), parameters)
        except psycopg.Error:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close the session; the next statement opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def host_at_work(url: str, seed: int) -> Iterator[None]:
    """Let webhooks and the runner work while the block runs."""
    random = Random(seed)  # noqa: S311 (replayed from the seed)
    over = threading.Event()

    def webhook(client: Client) -> None:
        client.execute(random.choice(WEBHOOKS), near=random.random(), token=f"{random.getrandbits(64):016x}")

    def runner(client: Client) -> None:
        for script in RUNNER:
            client.execute(script)

    threads = [
        threading.Thread(target=_repeat, args=(url, work, seconds, over), name=work.__name__)
        for work, seconds in ((webhook, WEBHOOK_SECONDS), (runner, RUNNER_SECONDS))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _repeat(url: str, work: Callable[[Client], None], seconds: float, over: threading.Event) -> None:
    client = Client(url)
    try:
        while not over.wait(seconds):
            work(client)
    finally:
        client.close()
