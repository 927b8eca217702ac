"""Checkpoint files: a run's position as JSON, in this project's format and, read-only, in the old script's."""

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backfill_tasks.engine.encoding import is_text
from backfill_tasks.engine.model import Bounds, Run, RunId
from backfill_tasks.errors import CheckpointError, DamagedCheckpointError, DryRunCheckpointError
from backfill_tasks.escaping import visible
from backfill_tasks.options import RUN_OPTIONS, Parameters

_VERSION = 2

#: The exclusive upper limit of numbers that fit into the ledger's bigint.
_NUMBERS = 2**63

#: The largest file that is read. A checkpoint with the most lanes takes a tenth of it.
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class OldCheckpoint:
    """The old script's position: its cursor and the number of jobs it had numbered, without its parameters."""

    cursor: str | None
    ordinal: int


@dataclass(frozen=True)
class Checkpoint:
    """A run's position, enough to continue if ledger and Redis have lost it. `left`: the ranges still to be walked."""

    run: RunId
    parameters: Parameters
    ordinal: int
    left: tuple[Bounds, ...]


def write(path: Path, run: Run) -> None:
    """Write a run's position atomically: a concurrent reader always sees a complete file.

    Raises:
        CheckpointError: the file can't be written.
    """
    content = {
        "version": _VERSION,
        "run_id": run.id,
        "state": run.state,
        "parameters": run.parameters.as_json(),
        "ordinal": run.ordinal,
        "counts": run.counts,
        "lanes": [
            {
                "number": lane.number,
                "lower": lane.bounds.lower,
                "upper": lane.bounds.upper,
                "cursor": lane.cursor,
                "page": lane.page,
                "state": lane.state,
                "counts": dict(lane.counts),
            }
            for lane in run.lanes
        ],
        "written_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    # An id can contain bytes that aren't UTF-8: JSON has an escape for each (engine/encoding.py).
    text = visible(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"the checkpoint can't be written to {path}: {error.strerror}") from None


def require_writable(path: Path) -> None:
    """Raise CheckpointError unless a checkpoint can be written to this path."""
    if not path.parent.is_dir():
        raise CheckpointError(
            f"the checkpoint can't be written to {path}: create its folder first: mkdir -p {path.parent}"
        )
    try:
        found = _mode(path)
        if found is not None and not stat.S_ISREG(found):
            kind = "a directory" if stat.S_ISDIR(found) else "not a regular file"
            raise CheckpointError(f"the checkpoint can't be written to {path}: it is {kind}")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CheckpointError(f"the checkpoint can't be written to {path}: {error.strerror}") from None


def _mode(path: Path) -> int | None:
    """Return the mode of the file at a path, following links; None if there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _text(path: Path) -> str:
    """Read a file of at most 1 MB. A FIFO or a device is refused without blocking.

    Raises:
        CheckpointError: it is larger, or not a regular file.
        OSError: it can't be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123  a Path opens no descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _damaged(path, "it is not a regular file")
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise _damaged(path, "it is larger than 1 MB")
    return content.decode("utf-8")


def read(path: Path) -> Checkpoint | OldCheckpoint | None:
    """Return a file's checkpoint; None if there is no such file.

    Raises:
        CheckpointError: it can't be read, or is not a valid checkpoint; no part of it is guessed.
    """
    try:
        content = json.loads(_text(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    try:
        known = _require(content, dict, "the content")
        return _of_version(_require(known["version"], int, "version"), known)
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _of_version(version: int, content: Mapping[str, Any]) -> Checkpoint | OldCheckpoint:
    match version:
        case 1:
            return _old(content)
        case 2:
            return _current(content)
    raise ValueError(f"its version is {version}, and this program reads versions 1 and 2")


def _damaged(path: Path, why: str) -> CheckpointError:
    return DamagedCheckpointError(f"{path} is not a valid checkpoint: {why}")


def _old(content: Mapping[str, Any]) -> OldCheckpoint:
    ordinal = _require(content["runAtIndex"], int, "runAtIndex")
    totals = content.get("totals")
    enqueued = totals.get("enqueued") if isinstance(totals, dict) else None
    if ordinal == 0 and enqueued:
        raise DryRunCheckpointError(
            "this checkpoint is from a dry run of the old script: it counts jobs that were never written. Continuing"
            " from it would skip them"
        )
    return OldCheckpoint(_id(content, "cursor"), ordinal)


def _current(content: Mapping[str, Any]) -> Checkpoint:
    lanes = [_left(_require(each, dict, "a lane")) for each in _require(content["lanes"], list, "lanes")]
    return Checkpoint(
        run=RunId(_require(content["run_id"], str, "run_id")),
        parameters=_parameters(_require(content["parameters"], dict, "parameters")),
        ordinal=_require(content["ordinal"], int, "ordinal"),
        left=tuple(lane for lane in lanes if lane is not None),
    )


def _parameters(content: Mapping[str, Any]) -> Parameters:
    """Parse a run's parameters; the backfill checks its own options."""
    _require(content["backfill"], str, "backfill")
    for name, option in RUN_OPTIONS.items():
        option.check(content.get(name, option.default) if option.added_later else content[name])
    _id(content, "cursor")
    return Parameters.from_json(content)


def _left(lane: Mapping[str, Any]) -> Bounds | None:
    """Return the remaining range of a lane; None if it is done."""
    lower, cursor, upper = (_id(lane, name) for name in ("lower", "cursor", "upper"))
    state = _require(lane["state"], str, "state")
    if upper is None or state not in {"running", "done", "failed"}:
        raise ValueError(f"a lane's upper is {upper!r} and its state {state!r}")
    return None if state == "done" else Bounds(lower if cursor is None else cursor, upper)


def _id(content: Mapping[str, Any], name: str) -> str | None:
    """Return an id that a database can store, or None if there is none yet. Lone surrogates may stand for bytes."""
    if content[name] is None:
        return None
    value = str(_require(content[name], str, name))
    if not value or "\x00" in value or not is_text(value):
        raise ValueError(f"{name} is {value!r}")
    return value


def _require(value: Any, kind: type, name: str) -> Any:
    """Return a value of exactly this type, else raise ValueError; a number must fit into the ledger."""
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < _NUMBERS):
        raise ValueError(f"{name} is {str(value)[:40]!r}")
    return value
