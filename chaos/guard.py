"""Cleans up after this process, however it dies.

A guard is a small shell that waits on a pipe whose other end only this process has open. When this process is gone,
even by SIGKILL, the shell reads end-of-file and runs its script. (Linux's parent-death signal fires when the *thread*
that started the child ends, and faults start programs from threads of their own.)

Weakness: a SIGKILL of the guard itself, or of everything at once, leaves its script undone.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

#: Kill a process group.
KILL_GROUP = 'kill -s KILL -- "-$1" 2>/dev/null'

#: Wake stopped processes, so that they can notice that their parent is gone.
CONTINUE = 'kill -s CONT "$@" 2>/dev/null'

#: Remove a folder. Programs being killed may still write into it, and a file system may be mounted in it.
REMOVE = """
tries=0
until rm -rf -- "$1" 2>/dev/null || [ $tries -ge 100 ]; do sleep 0.1; tries=$((tries + 1)); done
"""

#: Unmount a folder.
UNMOUNT = 'umount --lazy "$1" 2>/dev/null'


class Guard:
    """Runs a script with arguments ($1, $2 ...) if this process dies before `release`."""

    def __init__(self, script: str, *arguments: object) -> None:
        self._shell = subprocess.Popen(  # noqa: S603 (our own scripts)
            ["/bin/sh", "-c", f"read -r released && exit\n{script}", "guard", *map(str, arguments)],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )

    def release(self) -> None:
        """End the guard without running its script."""
        self._shell.communicate(b"released\n")


@contextmanager
def guarded(script: str, *arguments: object) -> Iterator[None]:
    """Run a script only if this process dies within the block."""
    guard = Guard(script, *arguments)
    try:
        yield
    finally:
        guard.release()
