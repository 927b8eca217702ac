"""The wheel and the sdist install and run outside a checkout, on every supported Python."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import click
import pytest
from harness import Backfill, Worker

from backfill_tasks import __version__
from backfill_tasks.cli.main import backfill as commands
from sandbox.host.sample import Sample

pytestmark = pytest.mark.package

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))


@dataclass(frozen=True)
class Distributions:
    """The distributions built from this checkout; the wheel is built from the sdist."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment with only one of them and its dependencies."""

    environment: Path

    @property
    def programs(self) -> Path:
        return self.environment / "bin"

    def python(self, code: str, cwd: Path) -> str:
        """Run a line of Python and return its output."""
        return called([self.programs / "python", "-I", "-c", code], cwd=cwd)


def called(command: list[str | Path], *, cwd: Path, **variables: str) -> str:
    """Run a command that must succeed and return its output."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def python(version: str) -> str | None:
    """Return a Python of this version, from PATH or from pyenv, whose shims run only the selected versions."""
    named = shutil.which(f"python{version}")
    pyenv = shutil.which("pyenv")
    root = os.environ.get("PYENV_ROOT") or (called([pyenv, "root"], cwd=ROOT).strip() if pyenv else "")
    ours = sorted(Path(root).glob(f"versions/{version}.*/bin/python")) if root else []
    return next((each for each in (named, *map(str, ours)) if each and is_version(each, version)), None)


def is_version(program: str, version: str) -> bool:
    """Return whether a program runs, has this version, and can create a virtual environment."""
    code = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"
    done = subprocess.run([program, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def sources() -> set[str]:
    """Return the checkout's runtime files of the command and the workers; cli is a link in the package."""
    folders = os.walk(ROOT / "backfill_tasks", followlinks=True)
    files = [Path(folder, name) for folder, _, names in folders for name in names]
    return {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    folder = tmp_path_factory.mktemp("dist")
    called([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], cwd=folder)
    return Distributions(*folder.glob("*.whl"), *folder.glob("*.tar.gz"))


@pytest.fixture(scope="module", params=PYTHONS)
def version(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    if python(named) is None:
        pytest.skip(f"there is no Python {named} with venv on PATH or in pyenv")
    return named


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(
    version: str, distributions: Distributions, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """The distribution, installed by pip; an sdist is built first."""
    made = Installed(tmp_path_factory.mktemp(f"installed-{version}-{request.param}"))
    interpreter = python(version)
    assert interpreter
    called([interpreter, "-m", "venv", "--without-pip", made.environment], cwd=made.environment)
    pip = [sys.executable, "-m", "pip", "--python", made.programs / "python", "--quiet", "install"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    called([*pip, *constraints, getattr(distributions, request.param)], cwd=made.environment)
    return made


@pytest.fixture
def alone(installed: Installed, tmp_path: Path) -> Backfill:
    """The installed command, in an empty folder without settings."""
    names = ("PATH", "HOME")
    return Backfill(tmp_path, {name: os.environ[name] for name in names if name in os.environ}, installed.programs)


def completed(alone: Backfill, words: str) -> list[str]:
    """Return bash's completions for the last of these words."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_BACKFILL_COMPLETE": "bash_complete"}
    return [line.removeprefix("plain,") for line in alone.set(**asked)().stdout.splitlines()]


def test_the_wheel_has_exactly_the_runtime_files(distributions: Distributions) -> None:
    with ZipFile(distributions.wheel) as wheel:
        files = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert files == sources()


def test_the_sdist_has_the_files_for_tests_and_image(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        files = {name.partition("/")[2] for name in sdist.getnames()}

    assert files >= sources()
    assert files >= {
        "Makefile",
        "Dockerfile",
        "celeryconfig.py",
        "cli/main.py",
        "docker-compose.yml",
        "constraints.txt",
        "sandbox/bootstrap.py",
    }
    assert files >= {"tests/conftest.py", "tests/test_package.py", "deploy/grafana/backfill.json", "CHANGELOG.md"}
    assert not [name for name in files if "__pycache__" in name or name.startswith((".venv", ".env/"))]


def test_the_package_is_imported_from_its_environment(installed: Installed, tmp_path: Path) -> None:
    place = installed.python("import backfill_tasks; print(backfill_tasks.__file__)", tmp_path)

    assert str(installed.environment) in place


def test_the_wheel_has_one_top_level_package(distributions: Distributions) -> None:
    with ZipFile(distributions.wheel) as wheel:
        names = {name.partition("/")[0] for name in wheel.namelist()}

    assert names == {"backfill_tasks", f"backfill-{__version__}.dist-info"}


def test_the_dependencies_are_consistent(installed: Installed, tmp_path: Path) -> None:
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", installed.programs / "python"]

    assert "No broken requirements" in called([*pip, "check"], cwd=tmp_path)


def test_the_command_shows_its_version_and_help(alone: Backfill) -> None:
    listed = alone("--help").stdout

    assert alone("--version").stdout == f"backfill, version {__version__}\n"
    assert [name for name in commands.list_commands(click.Context(commands)) if f"\n  {name} " not in listed] == []


def test_config_lists_the_settings(alone: Backfill) -> None:
    done = alone("config")

    assert "BACKFILL_RATE_LIMIT" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_completion_script(alone: Backfill, shell: str) -> None:
    done = alone.set(_BACKFILL_COMPLETE=f"{shell}_source")()

    assert done.returncode == 0
    assert f"_BACKFILL_COMPLETE={shell}_complete" in done.stdout


def test_commands_and_options_are_completed(alone: Backfill) -> None:
    assert completed(alone, "backfill ver") == ["verify"]
    assert completed(alone, "backfill run --rescore") == ["--rescore-all"]


def test_celery_finds_the_app_and_its_tasks(alone: Backfill) -> None:
    said = called(
        [alone.programs / "celery", "-A", "backfill_tasks", "report"], cwd=alone.directory, **dict(alone.environment)
    )

    assert "celery:5.6" in said


def test_the_installed_package_completes_a_run(installed: Installed, backfill: Backfill, sample: Sample) -> None:
    here = replace(backfill, programs=installed.programs)
    worker = Worker.start(here, concurrency=1)
    try:
        run = here.json("run", "--apply")
        rollups = here.json("run", "message-rollups", "--apply")
        verified = here.json("verify", run["run_id"])
    finally:
        worker.stop()

    assert run["counts"]["read"] == sample.eligible
    assert rollups["state"] == "complete"
    assert verified["clean"]
