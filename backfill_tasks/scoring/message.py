"""The message of a batch: all that is sent through the broker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from backfill_tasks.errors import MalformedError
from backfill_tasks.scoring.jobs import HOLDER_PREFIX

#: Limits of the ledger's columns.
_GREATEST = 2**31 - 1
_LONGEST_ID = 100


@dataclass(frozen=True)
class ScoreMessage:
    """The batch that a task is to do. Batches of a slot are numbered from 1."""

    session: str
    slot: int
    generation: int
    batch: int

    @property
    def task_id(self) -> str:
        """The Celery task's id, readable in Flower."""
        return f"{self.session}:slot-{self.slot:02}:{self.batch:06}:g{self.generation}"

    @property
    def holder(self) -> str:
        """What lockedBy says of the batch's jobs: unique, because a batch begins only once."""
        return f"{HOLDER_PREFIX}{self.task_id}"

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Return the message with these fields.

        Raises:
            MalformedError: a field is missing, unknown or invalid.
        """
        if values.keys() != {each.name for each in fields(cls)}:
            raise MalformedError("its fields are not those of a batch")
        session = values["session"]
        if type(session) is not str or not 0 < len(session) <= _LONGEST_ID or "\x00" in session:
            raise MalformedError("session is not an id")
        for name in ("slot", "generation", "batch"):
            if type(values[name]) is not int or not 0 < values[name] <= _GREATEST:
                raise MalformedError(f"{name} is not a positive number")
        return cls(**values)


Send = Callable[[ScoreMessage, float], None]
"""Sends a batch's message, to be taken after so many seconds.

Raises:
    SendError: the broker is unreachable or refuses.
"""
