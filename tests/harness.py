"""The installed command and real workers as subprocesses, with their output and exit status."""

import base64
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import fork_server

T = TypeVar("T")

_PROGRAMS = Path(sys.executable).parent

#: Everything that could hold a run back is off unless a test is about it: in a test no runner drains the host's queue,
#: and a busy machine should not make pages smaller.
UNBOUNDED = {
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


#: How long a test waits, in seconds. It only ends tests that hang: on a loaded machine, 15 seconds can become twenty.
PATIENCE = 300.0


def wait_for(condition: Callable[[], T], *, what: str) -> T:
    """Wait until a condition is true and return its value; fail after PATIENCE, naming `what`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE:.0f} s in vain: {what}")
        time.sleep(0.02)


def wait_while_moving(
    condition: Callable[[], T],
    *,
    what: str,
    progress: Callable[[], object],
    stalled_seconds: float = 120.0,
    seconds: float = 1_800.0,
) -> T:
    """Wait until a condition is true and return its value.

    A busy machine only makes the wait longer: it fails if `progress` hasn't changed for `stalled_seconds`, or after
    `seconds` in all.
    """
    seen, changed, began = progress(), time.monotonic(), time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        now, current = time.monotonic(), progress()
        if current != seen:
            seen, changed = current, now
        if now - changed > stalled_seconds:
            raise AssertionError(f"nothing moved for {stalled_seconds:.0f} s ({seen}): {what}")
        if now - began > seconds:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Backfill:
    """The command, run outside the checkout in its own environment."""

    directory: Path
    environment: Mapping[str, str]
    programs: Path = _PROGRAMS

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    def set(self, **variables: str) -> "Backfill":
        """Return the command with other variables added."""
        return replace(self, environment={**self.environment, **variables})

    def __call__(self, *arguments: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end, without a terminal."""
        return fork_server.run(
            [self.programs / "backfill", *arguments],
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )

    def json(self, *arguments: str, status: int = 0, timeout: float = PATIENCE) -> dict[str, Any]:
        """Run the command with --json, assert its exit status and return its object."""
        done = self(*arguments, "--json", timeout=timeout)
        assert done.returncode == status, (
            f"exit status {done.returncode}, expected {status}: {done.stderr}{done.stdout}"
        )
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    def popen(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command and leave it running."""
        return fork_server.Process(
            [self.programs / "backfill", *arguments],
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass
class Worker:
    """A `backfill worker` in its own process group."""

    process: "subprocess.Popen[bytes]"
    log: Path
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def start(
        cls,
        backfill: Backfill,
        **options: Any,
    ) -> "Worker":
        """Start a worker, with the options of `launch`, and wait until it takes messages."""
        started = cls.launch(backfill, **options)
        started.wait_until_ready()
        return started

    @classmethod
    def launch(
        cls,
        backfill: Backfill,
        *,
        concurrency: int = 2,
        beat: bool = False,
        app: str | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> "Worker":
        """Start a worker without waiting until it takes messages. With an `app`, Celery's command line starts it."""
        number = len(list(backfill.directory.glob("worker-*.log"))) + 1
        log = backfill.directory / f"worker-{number}.log"
        variables = {**backfill.environment, **(environment or {})}
        command = [str(backfill.programs / "backfill"), "worker"]
        if app is not None:
            command = [str(backfill.programs / "celery"), "-A", app, "worker", "--loglevel=info"]
        command += [f"--concurrency={concurrency}", f"--hostname=worker-{number}-{os.getpid()}@%h", *options]
        if beat:
            command += ["--beat", "--schedule", str(backfill.directory / f"beat-{number}")]
        with log.open("wb") as output:
            process = fork_server.Process(
                command, cwd=backfill.directory, env=variables, stdout=output, stderr=output, start_new_session=True
            )
        return cls(process, log, variables)

    def wait_until_ready(self) -> None:
        """Wait until it takes messages."""
        wait_for(self._ready, what=f"the worker to be ready: {self.log}")

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the worker ended: {self.output}"
        return " ready." in self.output

    @property
    def output(self) -> str:
        """Everything it has logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """Send SIGKILL to the worker and all its children at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop it; kill it if it doesn't end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


def end(process: "subprocess.Popen[Any]") -> None:
    """Stop a process; kill it if it doesn't end."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def fetch(url: str, *, method: str = "GET", authorization: str = "") -> tuple[int, str]:
    """Return the status and the body of a server's answer."""
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)  # noqa: S310
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (our own address)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


@dataclass(frozen=True)
class Flower:
    """A `celery -A backfill_tasks flower` on its own port."""

    process: "subprocess.Popen[bytes]"
    log: Path
    login: str | None

    @classmethod
    def start(cls, backfill: Backfill, *options: str, login: str | None = "ops:not-secret") -> "Flower":
        """Start Flower, with or without a login, and wait until it listens."""
        log = backfill.directory / f"flower-{len(list(backfill.directory.glob('flower-*.log')))}.log"
        command = [str(_PROGRAMS / "celery"), "-A", "backfill_tasks", "flower", "--port=0", *options]
        variables = {name: value for name, value in backfill.environment.items() if not name.startswith("FLOWER_")}
        if login is not None:
            variables["FLOWER_BASIC_AUTH"] = login
        with log.open("wb") as output:
            process = fork_server.Process(command, cwd=backfill.directory, env=variables, stdout=output, stderr=output)
        started = cls(process, log, login)
        wait_for(started._listens, what=f"Flower to listen: {log}")
        return started

    def _listens(self) -> bool:
        assert self.process.poll() is None, f"Flower ended: {self.log.read_text()}"
        return "Visit me at" in self.log.read_text()

    @property
    def port(self) -> int:
        found = re.search(r"Visit me at http://[^:]+:(\d+)", self.log.read_text())
        assert found, "Flower does not say where it listens"
        return int(found[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, *, method: str = "GET", login: str | None = None) -> tuple[int, str]:
        """Request a path, with or without a login; return the status and the body."""
        authorization = f"Basic {base64.b64encode(login.encode()).decode()}" if login is not None else ""
        return fetch(self.url + path, method=method, authorization=authorization)

    def wait_for_a_worker(self, prefix: str = "") -> None:
        """Wait until Flower hears the workers."""
        path = f"{prefix}/workers?json=1"
        wait_for(lambda: json.loads(self.get(path, login=self.login)[1])["data"], what="Flower to hear a worker")

    def stop(self) -> None:
        """Stop Flower."""
        end(self.process)


#: Makes standard input the controlling terminal, so that Ctrl-C there sends a signal, then executes the command.
_ON_A_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"

#: Sequences that move the cursor or clear a line without showing anything.
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The command on a terminal of 100 columns: what it shows, and the keys that an operator presses."""

    def __init__(self, backfill: Backfill, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self._seen = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, _PROGRAMS / "backfill", *arguments],
            cwd=backfill.directory,
            env={**backfill.environment, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    @property
    def shown(self) -> str:
        """Everything it has shown so far."""
        return _CONTROL_SEQUENCE.sub("", self._seen.decode(errors="replace")).replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        """Read until it has shown a text."""
        wait_for(lambda: text in self.shown or (self._read() and text in self.shown), what=text)

    def type(self, keys: str) -> None:
        """Press keys: "y\\n", or "\\x03" for Ctrl-C."""
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Read until it ends and return its exit status."""
        wait_for(lambda: not self._read(), what=f"the command to end, which shows: {self.shown}")
        return self._process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """End it if it is still running."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        """Read what is available; return False at the end."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            read = os.read(self._master, 65_536)
        except OSError:  # Linux reports this once no process has the terminal open
            return False
        self._seen += read
        return bool(read)
