"""Beat loads no code from a file, and reports that it is alive."""

import os
import pickle
import shelve
from collections.abc import Callable, Iterator
from pathlib import Path

import fork_server
import pytest
import redis
from harness import Backfill, end, wait_for

START = Callable[..., fork_server.Process]


class _Mine:
    """A pickle by another user of the machine that runs a command when it is loaded."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self._command,)


@pytest.fixture
def start_beat(backfill: Backfill, tmp_path: Path) -> Iterator[START]:
    """Yield a function that starts beat with a temporary folder of the test's own."""
    started: list[fork_server.Process] = []

    def start(*options: str) -> fork_server.Process:
        command = [backfill.programs / "backfill", "beat"]
        with (tmp_path / "beat.log").open("wb") as log:
            environment = {**backfill.environment, "TMPDIR": str(tmp_path)}
            started.append(
                fork_server.Process([*command, *options], cwd=tmp_path, env=environment, stdout=log, stderr=log)
            )
        return started[-1]

    yield start
    for process in started:
        end(process)


def queued(backfill: Backfill) -> int:
    with redis.Redis.from_url(backfill.environment["REDIS_URL"]) as client:
        return int(str(client.llen(f"{backfill.environment['BACKFILL_QUEUE']}.watchdog")))


def heartbeat(backfill: Backfill, tmp_path: Path) -> Path:
    return tmp_path / f"backfill-{os.geteuid()}" / f"beat-{backfill.environment['BACKFILL_QUEUE']}"


def test_watchdog_is_sent_repeatedly_and_the_heartbeat_file_is_private(
    backfill: Backfill, start_beat: START, tmp_path: Path
) -> None:
    start_beat()
    file = heartbeat(backfill, tmp_path)
    wait_for(file.exists, what="beat's heartbeat")

    wait_for(lambda: queued(backfill) >= 1, what="the watchdog's task")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    first = file.stat().st_mtime
    wait_for(lambda: file.stat().st_mtime > first, what="the next heartbeat")


@pytest.mark.parametrize("given", [False, True])
def test_pickle_of_another_user_is_never_loaded(
    backfill: Backfill,
    start_beat: START,
    tmp_path: Path,
    given: bool,  # noqa: FBT001
) -> None:
    planted, ran = tmp_path / f"backfill-beat-{backfill.environment['BACKFILL_QUEUE']}", tmp_path / "it-ran"
    with shelve.open(str(planted), protocol=pickle.HIGHEST_PROTOCOL) as file:  # noqa: S301  written, never read
        file["entries"] = _Mine(f"touch {ran}")
        file["tz"] = _Mine(f"touch {ran}")

    start_beat(*([f"--schedule={planted}"] if given else []))

    wait_for(heartbeat(backfill, tmp_path).exists, what="beat's heartbeat")
    assert not ran.exists()


def test_folder_that_others_can_write_to_is_not_used(backfill: Backfill, start_beat: START, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    heartbeat(backfill, tmp_path).parent.symlink_to(target)

    start_beat()

    log = tmp_path / "beat.log"
    wait_for(lambda: "can't write its heartbeat file" in log.read_text(), what="the warning")
    wait_for(lambda: queued(backfill) >= 1, what="the watchdog's task")
    assert list(target.iterdir()) == []


def test_compose_health_check_matches_the_heartbeat_path() -> None:
    compose = (Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8")

    assert "find /tmp -path '/tmp/backfill-*/beat-*' -newermt" in compose
