"""A fault campaign that ends during a fault leaves no process, mount or folder behind."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import wait_for

ROOT = Path(__file__).parents[2]
FAULT = "postgres: stopped"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Yield a folder for everything that a campaign writes, readable by PostgreSQL's user."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-ends-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_killed_campaign_leaves_nothing_behind(number: signal.Signals, temporary: Path) -> None:
    token = secrets.token_hex(8)
    output = temporary / "output"
    with output.open("w") as file:
        campaign = subprocess.Popen(
            [sys.executable, "-m", "chaos", "--seed", "1", "--only", FAULT],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary), "CHAOS_TOKEN": token},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(
            lambda: f"{FAULT}, " in output.read_text() or campaign.poll() is not None,
            what="the fault",
        )
        assert campaign.poll() is None, output.read_text()
        assert _belonging(token, temporary)
    finally:
        campaign.send_signal(number)
        campaign.wait(30)
    wait_for(lambda: not _belonging(token, temporary), what="the end of all processes")
    wait_for(lambda: str(temporary) not in Path("/proc/mounts").read_text(), what="no mount to be left")
    wait_for(lambda: list(temporary.iterdir()) == [output], what="no folder to be left")


def _belonging(token: str, folder: Path) -> list[str]:
    """Return the command lines of a campaign's processes: they have its variable or work in its folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment, works_in = (process / "environ").read_bytes(), (process / "cwd").readlink()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"CHAOS_TOKEN={token}".encode() in environment or folder in works_in.parents:
            found.append(command)
    return found
