"""The fleet under test: PostgreSQL and Redis behind proxies, three workers, beat, and the operator's command."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from redis import Redis as RedisClient

from chaos.guard import UNMOUNT, guarded
from chaos.process import Program
from chaos.proxy import Proxy
from sandbox.host.sample import create_schema, fill
from sandbox.servers import DISPOSABLE, Postgres, Redis, create_database

WORKERS = 3
LANES = 4
#: Small pages with delays, so that a run outlasts its faults.
LIMIT, PAGE_DELAY_MS = 4, 500

QUEUE = "chaos"
ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
READY_SECONDS = 180.0
COMMAND_SECONDS = 90.0

#: The limits that protect a live host are off, so that only a fault can stall a lane.
UNBOUNDED: Mapping[str, str] = {
    "BACKFILL_JOBS_PER_MINUTE": "none",
    "BACKFILL_MAX_PENDING": "none",
    "BACKFILL_DRAIN_SECONDS": "none",
    "BACKFILL_MAX_LIVE_WAIT": "0",
    "BACKFILL_TARGET_PAGE_MS": "0",
    "BACKFILL_MAX_REPLICATION_LAG": "none",
    "BACKFILL_MAX_LOCK_WAITS": "none",
    "BACKFILL_MAX_ACTIVE_PERCENT": "none",
    "BACKFILL_MAX_TRANSACTION_AGE": "none",
    "BACKFILL_MAX_PAGE_MS": "none",
    "BACKFILL_BUSY_LIMIT": "none",
}

#: The documented privileges of the backfill's role, and no more.
RIGHTS = """
CREATE ROLE app LOGIN PASSWORD '{password}';
GRANT CREATE ON DATABASE "{database}" TO app;
GRANT SELECT ON "Client", "Lead", "Message", "BackgroundJob" TO app;
GRANT UPDATE ON "Lead" TO app;
GRANT INSERT, UPDATE ON "BackgroundJob" TO app;
"""


class CampaignError(Exception):
    """The campaign itself can't continue; the text says why."""


@dataclass(frozen=True)
class Answer:
    """The result of an operator's command. Status None: it didn't answer in time."""

    status: int | None
    output: str
    errors: str


@dataclass
class Fleet:
    """Everything that faults hit. `host_url` and `direct_redis_url` bypass the proxies.

    Attributes:
        small_disk: the file system of the database's tables, small enough to fill; None if this machine can't mount it.
    """

    directory: Path
    postgres: Postgres
    redis: Redis
    postgres_proxy: Proxy
    redis_proxy: Proxy
    host_url: str
    environment: Mapping[str, str] = field(repr=False)
    workers: list[Program]
    beat: Program
    small_disk: Path | None
    #: The programs that didn't stop within the grace period.
    overran: list[str] = field(default_factory=list)

    @property
    def programs(self) -> list[Program]:
        """The workers and beat."""
        return [*self.workers, self.beat]

    @property
    def direct_redis_url(self) -> str:
        """The URL of Redis, bypassing the proxy."""
        return self.redis.url

    def direct_redis(self) -> RedisClient:
        """Return a Redis client with a short time-out."""
        return RedisClient.from_url(self.direct_redis_url, socket_timeout=3)

    def command(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> Answer:
        """Run an operator's command and return its result; kill it after `seconds`."""
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [PROGRAMS / "backfill", *arguments],
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            return Answer(None, output, errors)
        return Answer(process.returncode, output, errors)

    def begin(self) -> str:
        """Start the run and return its id."""
        options = (f"--limit={LIMIT}", f"--page-delay-ms={PAGE_DELAY_MS}", f"--lanes={LANES}")
        answer = self.command("run", "--apply", "--yes", "--detach", *options)
        if answer.status not in {0, 4}:
            raise CampaignError(f"the run did not start ({answer.status}): {answer.errors}{answer.output}")
        with psycopg.connect(self.host_url, autocommit=True) as connection:
            (run,) = connection.execute("SELECT id FROM backfill.run").fetchone() or ("",)
        return str(run)


@contextmanager
def fleet(directory: Path, *, leads: int) -> Iterator[Fleet]:
    """Start a fleet on a host database with this many leads; everything ends with the block."""
    with ExitStack() as stack:
        small_disk = stack.enter_context(_small_disk(directory))
        settings = {**DISPOSABLE, "max_connections": "60", "superuser_reserved_connections": "12"}
        postgres = stack.enter_context(Postgres(settings=settings))
        broker = stack.enter_context(Redis(append_only=True))
        url, password = _database(postgres, leads, small_disk), secrets.token_hex(8)
        with psycopg.connect(url, autocommit=True) as connection:
            rights = RIGHTS.format(password=password, database=urlsplit(url).path.removeprefix("/"))
            connection.execute(rights.encode())
        to_postgres = stack.enter_context(Proxy(postgres.port))
        to_redis = stack.enter_context(Proxy(broker.port))
        environment = _environment(
            DATABASE_URL=f"postgresql://app:{password}@127.0.0.1:{to_postgres.port}{urlsplit(url).path}",
            REDIS_URL=f"redis://127.0.0.1:{to_redis.port}/0",
            TMPDIR=str(directory),
        )
        workers = [_celery(directory, environment, f"worker-{number}") for number in range(1, WORKERS + 1)]
        beat = _celery(directory, environment, "beat")
        made = Fleet(directory, postgres, broker, to_postgres, to_redis, url, environment, workers, beat, small_disk)
        for program in made.programs:
            stack.callback(program.kill)
            program.start()
        initialized = made.command("init")
        if initialized.status != 0:
            raise CampaignError(f"`backfill init` exited with {initialized.status}: {initialized.errors}")
        for worker in workers:
            wait_until(partial(worker.has_said, " ready."), what=f"waiting for {worker.name}")
        yield made


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float = READY_SECONDS) -> None:
    """Wait for a condition.

    Raises:
        CampaignError: the condition didn't become true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise CampaignError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def small_disk_is_possible() -> bool:
    """Return whether this machine allows us to mount a small file system."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and Path("/proc/filesystems").exists() and _mounts()


def _mounts() -> bool:
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, _small_disk(Path(folder)) as disk:
        return disk is not None


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path | None]:
    """Mount a 400 MB file system in memory, if allowed; else yield None."""
    disk = directory / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0777", "tmpfs", str(disk)]
    done = subprocess.run(mount, check=False, capture_output=True) if os.geteuid() == 0 else None  # noqa: S603
    if done is None or done.returncode != 0:
        yield None
        return
    try:
        with guarded(UNMOUNT, disk):
            yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False, capture_output=True)  # noqa: S603, S607


def _database(postgres: Postgres, leads: int, small_disk: Path | None) -> str:
    """Create and fill the host's database, with its tables on the small disk and the audit triggers; return its URL."""
    url = create_database(postgres.url, "chaos")
    if small_disk is not None:
        tables = small_disk / "tables"
        tables.mkdir(mode=0o700)
        owner = (postgres.home / "data").stat()
        os.chown(tables, owner.st_uid, owner.st_gid)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{tables}'".encode())
            connection.execute(b"ALTER DATABASE chaos SET TABLESPACE small")
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        fill(connection, leads, scored_share=0.15)
        connection.execute(Path(__file__).with_name("audit.sql").read_bytes())
    return url


def _environment(**variables: str) -> dict[str, str]:
    """Return the environment: guarantees rest on default settings; REMAP_SIGTERM is as in docker-compose.yml."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BACKFILL_", "CELERY_"))}
    return {
        **inherited,
        **UNBOUNDED,
        "BACKFILL_QUEUE": QUEUE,
        "BACKFILL_VISIBILITY_TIMEOUT": "60",
        "PYTHONPATH": str(ROOT),
        "REMAP_SIGTERM": "SIGQUIT",
        **variables,
    }


def _celery(directory: Path, environment: Mapping[str, str], name: str) -> Program:
    command = [str(PROGRAMS / "celery"), "-A", "chaos.app"]
    if name == "beat":
        command += ["beat", "--pidfile=", "--loglevel=info", f"--schedule={directory / 'beat-schedule'}"]
    else:
        command += ["worker", "--concurrency=2", "--loglevel=info", f"--hostname={name}@%h"]
    return Program(name, command, directory, environment)
