"""A program of the fleet. It ends only when the campaign ends it; anything else is a violation."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.guard import KILL_GROUP, Guard


@dataclass(frozen=True, slots=True)
class _Running:
    """A process group's leader, and the guard that kills the group if this process dies."""

    process: subprocess.Popen[bytes]
    guard: Guard

    def end(self) -> None:
        """Kill the rest of the group."""
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.guard.release()


class Program:
    """A program in its own process group that logs to a file. It doesn't outlive this process."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = list(command)
        self._directory = directory
        self._environment = dict(environment)
        self._running: _Running | None = None
        self._lock = threading.RLock()

    def start(self) -> None:
        """Start the program if it isn't running."""
        with self._lock:
            if self._running is not None:
                return
            with self.log.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 (our own command)
                    self._command,
                    cwd=self._directory,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._running = _Running(process, Guard(KILL_GROUP, process.pid))

    def kill(self) -> None:
        """Send SIGKILL to the program and its children."""
        running = self._forget()
        if running is not None:
            running.end()

    def stop(self, *, seconds: float) -> bool:
        """Send SIGTERM, and SIGKILL after `seconds`. Return whether it ended in time."""
        running = self._forget()
        if running is None:
            return True
        running.process.terminate()
        try:
            running.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            running.end()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children."""
        with self._lock:
            if self._running is not None:
                _signal_group(self._running.process.pid, number)

    def children(self) -> list[int]:
        """Return the process ids of its descendants, such as a worker's pool."""
        with self._lock:
            return descendants(self._running.process.pid) if self._running is not None else []

    def ended_by_itself(self) -> int | None:
        """Return the exit status if the program ended unasked, and kill what it left behind. Reports each end once."""
        with self._lock:
            status = self._running.process.poll() if self._running is not None else None
            if status is not None:
                self.kill()
            return status

    def _forget(self) -> _Running | None:
        with self._lock:
            running, self._running = self._running, None
            return running

    def has_said(self, words: str) -> bool:
        """Return whether the words are in its log."""
        return self.log.exists() and words in self.log.read_text(encoding="utf-8", errors="replace")


def descendants(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process, from Linux's /proc."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes; skip those that are gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
