"""Server processes that leave nothing behind, however this process ends.

Each server has a guard: a small shell that waits for the end of a pipe whose other end only this process holds. When
this process ends, even by SIGKILL, the guard stops the server and removes temporary folders. (Linux's parent-death
signal can't be relied on here: it is sent when the *thread* that started the server ends, and is cleared when the
server changes its user.)
"""

import errno
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02

# Below the ports that systems use for outgoing connections: no other process gets a server's port while it restarts.
PORTS = range(20_000, 32_000)
PORTS_TRIED = 50

# $0 is the signal that stops the server, "$@" the folders to remove. Standard input names the server's process: the
# newest line counts, and an empty one means that none is running.
GUARD = """
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -s "$0" "$pid" 2>/dev/null; then
    tries=0
    while [ $tries -lt 100 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; tries=$((tries + 1)); done
    kill -s KILL "$pid" 2>/dev/null
fi
[ $# -eq 0 ] || rm -rf -- "$@"
"""


class ServerError(Exception):
    """A server can't be provided; the text says in one line why and what to do."""


class Server(ABC):
    """The common base of PostgreSQL and Redis: one process on 127.0.0.1, with a folder of its own.

    ``start`` returns when the server answers, ``stop`` when its process has ended. With a ``directory``, the data is
    kept in a folder in it; without one, it is in a temporary folder that ``stop`` removes. If no ``port`` is given, one
    is chosen at the first start and kept from then on.

    Use it as a context manager, or call ``start`` and ``stop``. A child forked from this process (not started as a
    program) keeps the server running until it has ended, too.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    crash_signal: ClassVar[signal.Signals]
    guard_signal: ClassVar[signal.Signals]

    def __init__(self, directory: Path | None = None, *, port: int | None = None) -> None:
        self._directory = None if directory is None else directory.resolve()
        self._port = port
        self._home: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._user: int | None = None
        self._group: int | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients, with the password if there is one."""

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, known from the first start on."""
        if self._port is None:
            raise ServerError(f"{self.name} has no port before its first start: call start()")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the server; for PostgreSQL that of its postmaster."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running: call start()")
        return self._process.pid

    @property
    def home(self) -> Path:
        """The folder of this server's data and log, until it is stopped."""
        if self._home is None:
            raise ServerError(f"{self.name} has no folder while it is stopped: call start()")
        return self._home

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.home / "server.log"

    def start(self) -> Self:
        """Start the server and wait until it answers; after ``kill``, it keeps its port and data.

        Raises:
            ServerError: It can't be started. Nothing is left running or left over then.
        """
        if self._process is not None:
            return self
        try:
            with self._explained():
                if self._guard is None:
                    self._open()
                self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server cleanly and remove its temporary folder. Does nothing if the server isn't started."""
        self._end(self.stop_signal)
        if self._guard is not None:
            self._guard.communicate()
        self._guard = self._home = None

    def kill(self) -> None:
        """Crash the server: clients aren't told, and what isn't yet written is lost."""
        self._end(self.crash_signal)

    def shut_down(self) -> None:
        """Stop the server cleanly and keep its port and data for the next start."""
        self._end(self.stop_signal)

    def restart(self) -> None:
        """Stop the server cleanly if it is running, and start it with the same port and data."""
        self._end(self.stop_signal)
        self.start()

    @abstractmethod
    def _prepare(self) -> None:
        """Create in ``home`` what the first start needs."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the command that runs the server in the foreground on ``port``."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether the server on ``port`` answers and is ours."""

    def _open(self) -> None:
        self._home = self._make_home()
        kept = self._home.parent == self._directory
        script = ["/bin/sh", "-c", GUARD, self.guard_signal.name.removeprefix("SIG")]
        # A session of its own: Ctrl-C in the terminal is meant for this process, which may still need its servers.
        self._guard = subprocess.Popen(  # noqa: S603 (our own command)
            script if kept else [*script, self._home], stdin=subprocess.PIPE, cwd="/", start_new_session=True
        )
        self._prepare()

    def _make_home(self) -> Path:
        if self._directory is None:
            return self._make_temporary_home()
        home = self._directory / self.name.lower()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return home

    def _make_temporary_home(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"backfill-{self.name.lower()}-")).resolve()

    def _launch(self) -> None:
        if self._port is not None:
            if not self._comes_up():
                advice = f"stop what listens there, or give {self.name} another port"
                raise ServerError(f"port {self._port} is taken: {advice}")
            return
        for port in random.SystemRandom().sample(PORTS, PORTS_TRIED):
            self._port = port
            if self._comes_up():
                return
            self._port = None
        raise ServerError(f"no free port for {self.name} from {PORTS.start} on: end other programs that listen")

    def _comes_up(self) -> bool:
        """Start the process and wait until it answers; return False if its port is taken."""
        if not _is_free(self.port):
            return False
        before = self.log.stat().st_size if self.log.exists() else 0
        self._process = self._spawn(self._command())
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None:
            if self._answers():
                return True
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer within {START_SECONDS:.0f} s: check the machine's load")
            time.sleep(POLL_SECONDS)
        self._end(self.stop_signal)
        said = self.log.read_bytes()[before:].decode(errors="replace")
        if "Address already in use" in said:
            return False
        raise ServerError(self._why(said))

    def _spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a program of this server under the guard, with its output in the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (our own command)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=self._environment(),
                start_new_session=True,
                user=self._user,
                group=self._group,
                extra_groups=None if self._user is None else [],
            )
        self._tell_guard(str(process.pid))
        return process

    def _environment(self) -> dict[str, str]:
        """Return a minimal environment, so that none of the caller's variables changes the server's behaviour."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _tell_guard(self, process: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{process}\n".encode())
            self._guard.stdin.flush()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._tell_guard("")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an operating system error into one line for the user."""
        try:
            yield
        except OSError as error:
            raise ServerError(self._why(str(error))) from error

    def _why(self, said: str) -> str:
        """Return one line that explains the output of a failed program or a system error."""
        if os.strerror(errno.ENOSPC) in said or os.strerror(errno.EDQUOT) in said:
            folder = self._home.parent if self._home else self._directory or tempfile.gettempdir()
            return f"the disk is full: free space for {self.name} in {folder}, or set TMPDIR to another disk"
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"FATAL|PANIC|rror\b|# ", line)]
        return f"{self.name} did not start: {(telling or lines or ['its log is empty'])[-1]}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
