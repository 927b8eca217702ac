"""Start the project's programs by forking a process that has already imported their libraries.

An interpreter that imports Celery, SQLAlchemy and Rich takes half a second of CPU time, and the suite starts thousands
of them. The fork server imports them once per pytest process. A program then starts within milliseconds, as a process
of its own with the arguments, environment, directory, files, session and exit status that `subprocess` would give it.

The weakness: a module that the server has imported doesn't run again. So the server imports no module that reads the
environment. A program is executed as usual if its environment changes the interpreter itself (LANG, TZ, PYTHONUTF8), or
if its PYTHONPATH replaces an imported module. If its PYTHONPATH brings a plug-in, which the command looks for while it
is imported, the process imports our own modules again.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

#: The programs that the server starts, with the entry points that their scripts in .venv/bin call.
PROGRAMS = {"backfill": ("backfill_tasks.cli.entry", "main"), "celery": ("celery.__main__", "main")}

#: What the programs import sooner or later.
_LIBRARIES = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "prometheus_client",
    "rich.live",
    "sqlalchemy.dialects.postgresql.psycopg",
)
#: Packages of our own that are imported with all their modules.
_OURS = tuple(f"backfill_tasks.{name}" for name in ("backfills", "cli.commands", "cli.render", "engine"))
#: The module that reads the environment: each process must import it itself.
_SETTINGS = "backfill_tasks.celeryconfig"

#: Prefixes of the variables that the interpreter, the C library and Matplotlib read when they are loaded.
_LOADING = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "HOME", "MPL", "XDG_")

_LARGEST_REQUEST = 1 << 20
_STATUS = struct.Struct("i")


class Process(subprocess.Popen[Any]):
    """A `subprocess.Popen` whose program the fork server starts, where it can."""

    _end = -1

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Let the server fork the program. `rest` is what `subprocess` passes, and so are the methods' names."""
        _, _, _, _, cwd, env, _, _, _, stdin, _, _, stdout, _, stderr, *_, start_new_session, _ = rest
        files = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        program, *arguments = map(os.fspath, args)
        if Path(program).parent != Path(sys.executable).parent or Path(program).name not in PROGRAMS:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        self._end, writer = os.pipe()
        request = {
            "program": program,
            "arguments": arguments,
            "directory": os.fspath(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "session": start_new_session,
        }
        try:
            self.pid = _server().fork(request, [*files, writer])
        finally:
            os.close(writer)
        self._child_created = True
        self._close_pipe_fds(*rest[9:15])

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """Return the process's id and status like `os.waitpid`, which only its parent, the server, can call."""
        if self._end == -1:
            return super()._try_wait(flags)  # type: ignore[misc,no-any-return]
        if flags & os.WNOHANG and not select.select([self._end], [], [], 0)[0]:
            return 0, 0
        read = os.read(self._end, _STATUS.size)
        os.close(self._end)
        if not read:
            raise ChildProcessError("the fork server ended before its child")
        return self.pid, _STATUS.unpack(read)[0]

    def _internal_poll(self, *arguments: Any, **named: Any) -> int | None:
        if self._end == -1:
            return super()._internal_poll(*arguments, **named)  # type: ignore[misc,no-any-return]
        with self._waitpid_lock:
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
        return self.returncode


def run(command: list[Any], *, timeout: float, **named: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end like `subprocess.run` with captured text output."""
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@cache
def _server() -> "_Client":
    return _Client()


class _Client:
    """The connection to this pytest process's server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a process with threads must not fork
            )

    def fork(self, request: Mapping[str, Any], files: list[int]) -> int:
        """Start a program with three standard files and a pipe for its status; return its process id."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(16)
        if not answer:
            raise ChildProcessError(f"the fork server ended with {self._process.wait()}")
        return int(answer)


# ---------------------------------------------------------------- the server's own process


class Start(NamedTuple):
    """A program to start, in a process that was forked for it."""

    request: Mapping[str, Any]
    files: list[int]


def serve(connection: socket.socket) -> Start | None:
    """Fork a process for each request, and write each one's exit status to its pipe.

    Returns in each forked process, with what it is to become; and in the server, with None, when its connection ends.
    By then the tests have ended their processes. If pytest was killed, the server ends them.
    """
    with connection, selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data:
                    selector.unregister(key.fd)
                    _report(key.fd, *key.data)
                    continue
                message, files, *_ = socket.recv_fds(connection, _LARGEST_REQUEST, 4)
                if not message:
                    _kill([key.data[0] for key in selector.get_map().values() if key.data])
                    return None
                pid = os.fork()
                if not pid:
                    return _started(connection, json.loads(message), files)
                for file in files[:3]:
                    os.close(file)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, files[3]))


def _started(connection: socket.socket, request: Mapping[str, Any], files: list[int]) -> Start:
    """Answer from the new process, once it leads the session that was asked for: its test may send it a signal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    connection.send(str(os.getpid()).encode())
    return Start(request, files)


def _report(handle: int, pid: int, pipe: int) -> None:
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(pipe, _STATUS.pack(status))
    os.close(pipe)
    os.close(handle)


def _kill(processes: list[int]) -> None:
    """Kill processes, with their groups where they lead one."""
    for process in processes:
        with suppress(ProcessLookupError):
            (os.killpg if os.getpgid(process) == process else os.kill)(process, signal.SIGKILL)


def _import_libraries() -> None:
    gc.disable()  # as the command does while it imports
    for name in _LIBRARIES:
        importlib.import_module(name)
    for package in map(importlib.import_module, _OURS):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    if _SETTINGS in sys.modules:
        sys.exit(f"the fork server has imported {_SETTINGS}: its programs would all have the server's settings")
    gc.freeze()
    gc.enable()


def become(request: Mapping[str, Any], files: list[int]) -> NoReturn:
    """Run a program in this forked process, in which nothing of the server is left but its imports."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["directory"])
    program, arguments, environment = request["program"], request["arguments"], request["environment"]
    added = [file for folder in _folders(environment) for file in Path(folder).glob("*")]
    if _needs_an_interpreter(environment, added):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(program, [program, *arguments], environment)  # noqa: S606
    own = _folders(os.environ)
    sys.path[:] = [*_folders(environment), *(folder for folder in sys.path if folder not in own)]
    os.environ.clear()
    os.environ.update(environment)
    if any(file.suffix == ".dist-info" for file in added):
        _forget_ours()
    tempfile.tempdir = None  # found again, since TMPDIR may differ
    sys.argv = [program, *arguments]
    _open_standard_streams()
    module, name = PROGRAMS[Path(program).name]
    sys.exit(getattr(importlib.import_module(module), name)())


def _needs_an_interpreter(environment: Mapping[str, str], added: list[Path]) -> bool:
    """Return whether a program in this environment behaves otherwise than a fork of this process."""
    ours, theirs = (
        {name: value for name, value in each.items() if name.startswith(_LOADING) and name != "PYTHONPATH"}
        for each in (os.environ, environment)
    )
    return ours != theirs or not {"sitecustomize", "usercustomize", *sys.modules}.isdisjoint(
        file.name.partition(".")[0] for file in added
    )


def _forget_ours() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "backfill_tasks"]:
        del sys.modules[name]


def _folders(environment: Mapping[str, str]) -> list[str]:
    return [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]


def _open_standard_streams() -> None:
    """Buffer the standard streams as the interpreter does for the files that are behind them now."""
    sys.stdin = sys.__stdin__ = _reader(0, sys.stdin)
    sys.stdout = sys.__stdout__ = _writer(1, sys.stdout, line_buffering=os.isatty(1))
    sys.stderr = sys.__stderr__ = _writer(2, sys.stderr, line_buffering=True)


def _reader(file: int, like: TextIO) -> TextIOWrapper:
    return TextIOWrapper(BufferedReader(FileIO(file, closefd=False)), like.encoding, like.errors)


def _writer(file: int, like: TextIO, *, line_buffering: bool) -> TextIOWrapper:
    buffer = BufferedWriter(FileIO(file, "w", closefd=False))
    return TextIOWrapper(buffer, like.encoding, like.errors, line_buffering=line_buffering)


def main(connection: int) -> None:
    """Serve one pytest process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the programs
    _import_libraries()
    start = serve(socket.socket(fileno=connection))
    if start:
        become(*start)


if __name__ == "__main__":
    main(int(sys.argv[1]))
