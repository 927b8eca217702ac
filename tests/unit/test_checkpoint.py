"""A checkpoint file is complete or absent, and is read exactly or refused."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from unit.runs import START, run_of

from backfill_tasks.engine import checkpoint
from backfill_tasks.engine.checkpoint import Checkpoint, OldCheckpoint
from backfill_tasks.engine.model import Bounds, Lane, RunId
from backfill_tasks.errors import CheckpointError
from backfill_tasks.options import Parameters

PARAMETERS = Parameters("lead-scoring", 500, 3, None, 0, {"client_ids": None, "rescore_all": False, "delay_ms": 0})
#: The backfill's own options, and an option that is newer than the format.
MAY_BE_MISSING = {*PARAMETERS.options, "min_share"}
LANES = (
    Lane(1, Bounds(None, "k"), "é_1", 2, 1, "running", None, {"read": 1_000}, START),
    Lane(2, Bounds("k", "p"), "p", 4, 1, "done", None, {"read": 1_700}, START),
    Lane(3, Bounds("p", "z"), None, 0, 1, "running", None, {}, START),
)
RUN = run_of(*LANES, parameters=PARAMETERS, ordinal=7)
OLD = {"version": 1, "cursor": "lead-9", "runAtIndex": 12, "totals": {"processed": 12}}

Content = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.json"


@pytest.fixture
def content(path: Path) -> Content:
    """Return the content of a valid checkpoint file."""
    checkpoint.write(path, RUN)
    sound: Content = json.loads(path.read_text(encoding="utf-8"))
    return sound


@dataclass(frozen=True)
class Damage:
    """Change or remove one value of a file's content, at any depth."""

    keys: tuple[str | int, ...]
    values: tuple[object, ...] = ()

    def __call__(self, content: Any) -> None:
        for key in self.keys[:-1]:
            content = content[key]
        if self.values:
            content[self.keys[-1]] = self.values[0]
        else:
            del content[self.keys[-1]]

    def __str__(self) -> str:
        name = ".".join(str(key) for key in self.keys)
        return f"{name} is {self.values[0]!r}" if self.values else f"no {name}"


def set_to(*keys: str | int, value: object) -> Damage:
    return Damage(keys, (value,))


def without(*keys: str | int) -> Damage:
    return Damage(keys)


def refusal(path: Path) -> str:
    """Return the error for a file, after checking that it is a single line and names the file."""
    with pytest.raises(CheckpointError) as refused:
        checkpoint.read(path)
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    assert str(path) in text
    return text


class TestWriting:
    def test_written_checkpoint_is_read_back(self, path: Path) -> None:
        checkpoint.write(path, RUN)

        left = (Bounds("é_1", "k"), Bounds("p", "z"))
        assert checkpoint.read(path) == Checkpoint(RunId("r-1"), PARAMETERS, 7, left)

    def test_newer_checkpoint_replaces_the_older_one(self, path: Path) -> None:
        checkpoint.write(path, RUN)

        checkpoint.write(path, replace(RUN, ordinal=8))

        found = checkpoint.read(path)
        assert isinstance(found, Checkpoint)
        assert found.ordinal == 8

    def test_writing_leaves_no_other_file_in_the_folder(self, path: Path) -> None:
        checkpoint.write(path, RUN)

        assert list(path.parent.iterdir()) == [path]

    def test_finished_run_has_nothing_left(self, path: Path) -> None:
        checkpoint.write(path, replace(RUN, lanes=LANES[1:2]))

        found = checkpoint.read(path)
        assert isinstance(found, Checkpoint)
        assert found.left == ()

    def test_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"can't be written to .*missing.*: No such file or directory"):
            checkpoint.write(tmp_path / "missing" / "checkpoint.json", RUN)

    def test_failed_write_leaves_nothing_behind(self, path: Path) -> None:
        path.mkdir()

        with pytest.raises(CheckpointError):
            checkpoint.write(path, RUN)
        assert list(path.parent.iterdir()) == [path]

    def test_writability_check_writes_nothing(self, tmp_path: Path, path: Path) -> None:
        checkpoint.require_writable(path)

        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("place", ["missing/checkpoint.json", "file/checkpoint.json", "folder"])
    def test_path_for_no_file_is_refused_before_the_run(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()

        with pytest.raises(CheckpointError, match="can't be written"):
            checkpoint.require_writable(tmp_path / place)


class TestReading:
    def test_missing_file_reads_as_none(self, path: Path) -> None:
        assert checkpoint.read(path) is None

    def test_lane_resumes_after_its_cursor(self, path: Path, content: Content) -> None:
        content["lanes"][2]["cursor"] = "q"
        path.write_text(json.dumps(content))

        found = checkpoint.read(path)

        assert isinstance(found, Checkpoint)
        assert found.left == (Bounds("é_1", "k"), Bounds("q", "z"))

    def test_an_option_that_is_newer_than_the_file_has_its_default(self, path: Path, content: Content) -> None:
        without("parameters", "min_share")(content)
        path.write_text(json.dumps(content))

        found = checkpoint.read(path)

        assert isinstance(found, Checkpoint)
        assert found.parameters.pace.min_share == 5.0

    def test_failed_lane_resumes_after_its_cursor(self, path: Path, content: Content) -> None:
        content["lanes"][0]["state"] = "failed"
        path.write_text(json.dumps(content))

        found = checkpoint.read(path)

        assert isinstance(found, Checkpoint)
        assert found.left[0] == Bounds("é_1", "k")

    def test_unknown_keys_are_ignored(self, path: Path, content: Content) -> None:
        path.write_text(json.dumps({**content, "comment": "by hand"}))

        assert isinstance(checkpoint.read(path), Checkpoint)


class TestOldScript:
    def test_file_gives_the_cursor_and_the_number_of_jobs(self, path: Path) -> None:
        path.write_text(json.dumps(OLD))

        assert checkpoint.read(path) == OldCheckpoint("lead-9", 12)

    def test_null_cursor_starts_from_the_beginning(self, path: Path) -> None:
        path.write_text(json.dumps({**OLD, "cursor": None, "runAtIndex": 0}))

        assert checkpoint.read(path) == OldCheckpoint(None, 0)

    def test_dry_run_file_is_refused(self, path: Path) -> None:
        path.write_text(json.dumps({**OLD, "runAtIndex": 0, "totals": {"enqueued": 12}}))

        with pytest.raises(CheckpointError, match="from a dry run of the old script"):
            checkpoint.read(path)

    def test_file_of_a_run_without_jobs_is_accepted(self, path: Path) -> None:
        path.write_text(json.dumps({**OLD, "runAtIndex": 0, "totals": {"enqueued": 0}}))

        assert checkpoint.read(path) == OldCheckpoint("lead-9", 0)

    @pytest.mark.parametrize(
        "damage",
        [
            without("cursor"),
            without("runAtIndex"),
            set_to("cursor", value=9),
            set_to("cursor", value=""),
            set_to("cursor", value="a\0b"),
            set_to("cursor", value="\ud800"),
            set_to("runAtIndex", value="12"),
            set_to("runAtIndex", value=-1),
            set_to("runAtIndex", value=1.5),
            set_to("runAtIndex", value=True),
            set_to("runAtIndex", value=None),
            set_to("runAtIndex", value=2**63),
        ],
        ids=str,
    )
    def test_damaged_file_is_refused(self, path: Path, damage: Damage) -> None:
        old = dict(OLD)
        damage(old)
        path.write_text(json.dumps(old))

        assert "is not a valid checkpoint" in refusal(path)


class TestDamage:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n",
            "not JSON",
            "{",
            '{"version": 2',
            '{"version": 2}{"version": 2}',
            "[]",
            "null",
            '"checkpoint"',
            "2",
            "{}",
            '{"version": 2}',
            '{"version": NaN}',
            "[" * 100_000,
            '{"version": 2, "lanes": ' + "[" * 100_000,
            '{"version": ' + "9" * 5_000 + "}",
        ],
        ids=lambda text: repr(text[:30]),
    )
    def test_non_checkpoint_text_is_refused(self, path: Path, text: str) -> None:
        path.write_text(text)

        assert "is not a valid checkpoint" in refusal(path)

    @pytest.mark.parametrize("size", [1, 10, 100, 300, -2])
    def test_truncated_file_is_refused(self, path: Path, size: int) -> None:
        checkpoint.write(path, RUN)
        path.write_bytes(path.read_bytes()[:size])

        assert "is not a valid checkpoint" in refusal(path)

    @pytest.mark.parametrize("data", [b"\xff\xfe{}", b"\0" * 512, '{"version": 2}'.encode("utf-16"), b"\x89PNG\r\n"])
    def test_binary_file_is_refused(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

        assert "is not a valid checkpoint" in refusal(path)

    def test_folder_is_refused(self, path: Path) -> None:
        path.mkdir()

        assert "Is a directory" in refusal(path)

    @pytest.mark.parametrize("version", [0, 3, -2, "2", 2.0, 1.0, True, None, [2], {}])
    def test_unknown_version_is_refused(self, path: Path, content: Content, version: object) -> None:
        path.write_text(json.dumps({**content, **OLD, "version": version}))

        assert "version" in refusal(path)

    @pytest.mark.parametrize(
        "damage",
        [
            without("run_id"),
            without("parameters"),
            without("ordinal"),
            without("lanes"),
            set_to("run_id", value=7),
            set_to("run_id", value=None),
            set_to("ordinal", value=-1),
            set_to("ordinal", value="7"),
            set_to("ordinal", value=7.0),
            set_to("ordinal", value=False),
            set_to("ordinal", value=2**63),
            set_to("parameters", value=[]),
            set_to("parameters", value=None),
            set_to("lanes", value={}),
            set_to("lanes", value=None),
            set_to("lanes", value="all"),
            set_to("lanes", value=[None]),
            set_to("lanes", value=["a"]),
            set_to("lanes", value=[[]]),
        ],
        ids=str,
    )
    def test_run_with_a_wrong_or_missing_value_is_refused(self, path: Path, content: Content, damage: Damage) -> None:
        damage(content)
        path.write_text(json.dumps(content))

        assert "is not a valid checkpoint" in refusal(path)

    @pytest.mark.parametrize(
        "damage",
        [
            *(without("parameters", name) for name in PARAMETERS.as_json() if name not in MAY_BE_MISSING),
            set_to("parameters", "backfill", value=1),
            set_to("parameters", "limit", value="500"),
            set_to("parameters", "limit", value=0),
            set_to("parameters", "limit", value=-1),
            set_to("parameters", "limit", value=1.5),
            set_to("parameters", "limit", value=None),
            set_to("parameters", "lanes", value=0),
            set_to("parameters", "lanes", value=True),
            set_to("parameters", "lanes", value="2"),
            set_to("parameters", "cursor", value=7),
            set_to("parameters", "page_delay_ms", value=-1),
            set_to("parameters", "page_delay_ms", value=None),
            set_to("parameters", "jobs_per_minute", value=0),
            set_to("parameters", "jobs_per_minute", value="10"),
            set_to("parameters", "jobs_per_minute", value=float("nan")),
            set_to("parameters", "max_pending", value=0),
            set_to("parameters", "max_pending", value=1.5),
            set_to("parameters", "max_jobs", value=-1),
            set_to("parameters", "max_live_wait", value=None),
            set_to("parameters", "target_page_ms", value=True),
            set_to("parameters", "cost_per_job", value=-0.1),
        ],
        ids=str,
    )
    def test_parameters_with_a_wrong_or_missing_value_are_refused(
        self, path: Path, content: Content, damage: Damage
    ) -> None:
        damage(content)
        path.write_text(json.dumps(content))

        assert "is not a valid checkpoint" in refusal(path)

    @pytest.mark.parametrize(
        "damage",
        [
            *(without("lanes", 0, name) for name in ("lower", "upper", "cursor", "state")),
            set_to("lanes", 0, "lower", value=1),
            set_to("lanes", 0, "upper", value=None),
            set_to("lanes", 0, "upper", value=["k"]),
            set_to("lanes", 0, "upper", value=""),
            set_to("lanes", 0, "upper", value="k\0"),
            set_to("lanes", 0, "cursor", value=1),
            set_to("lanes", 0, "cursor", value=""),
            set_to("lanes", 0, "cursor", value="a\0b"),
            set_to("lanes", 0, "cursor", value="\udfff"),
            set_to("lanes", 0, "state", value="paused"),
            set_to("lanes", 0, "state", value=None),
            set_to("lanes", 0, "state", value=["done"]),
        ],
        ids=str,
    )
    def test_lane_with_a_wrong_or_missing_value_is_refused(self, path: Path, content: Content, damage: Damage) -> None:
        damage(content)
        path.write_text(json.dumps(content))

        assert "is not a valid checkpoint" in refusal(path)
