import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def set_up(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up of a clone whose package index is unreachable."""
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_FIND_LINKS": ""}
    return subprocess.run(
        [sys.executable, "sandbox/bootstrap.py", "test"],
        cwd=clone,
        env={**os.environ, **nowhere, "PIP_RETRIES": "1", **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def clone_to(folder: Path) -> Path:
    (folder / "sandbox").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "sandbox/bootstrap.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.long
def test_an_unreachable_index_is_a_one_line_error_with_the_log_path(tmp_path: Path) -> None:
    clone = clone_to(tmp_path / "clone")

    result = set_up(clone)

    assert result.returncode == 1
    assert result.stderr.startswith("setup failed: the package index can't be reached")
    assert str(clone / ".venv/install.log") in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_up_to_date_venv_is_left_alone(tmp_path: Path) -> None:
    clone = clone_to(tmp_path / "clone")
    recorded = subprocess.run(
        [sys.executable, "-c", RECORD], cwd=clone / "sandbox", check=True, capture_output=True, text=True
    )

    result = set_up(clone)

    assert recorded.returncode == 0
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


RECORD = """
import dataclasses, json, bootstrap
bootstrap.VENV.mkdir()
bootstrap.STAMP.write_text(json.dumps(dataclasses.asdict(bootstrap.wanted(["test"], None))))
"""


def test_changed_constraints_trigger_a_reinstall(tmp_path: Path) -> None:
    clone = clone_to(tmp_path / "clone")
    subprocess.run([sys.executable, "-c", RECORD], cwd=clone / "sandbox", check=True)
    with (clone / "constraints.txt").open("a") as constraints:
        constraints.write("another==1\n")

    result = set_up(clone)

    assert result.stdout.startswith("setting up .venv: ")
    assert result.returncode == 1
