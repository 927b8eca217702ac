"""Processes that die at any step, as by SIGKILL: nothing after the step happens, and no handler runs.

A step is an externally visible action: a statement to PostgreSQL, a commit, a command to Redis, a sent message. A
process can die before or after each step, and so between any two.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from properties.laboratory import Laboratory
from redis import Redis
from redis.client import Pipeline
from sqlalchemy import Engine, event

from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.model import PageMessage
from backfill_tasks.engine.runs import Runs


class Died(BaseException):
    """The process died; the text names the step before or after which it died."""


@dataclass
class Reaper:
    """Counts a process's steps and ends it at a given one, or lets others act in the middle."""

    left: int | None = None
    meanwhile: Callable[[], object] | None = None

    def happen(self) -> None:
        """Let others act once, after the process has committed a page and before it sends the next."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def step(self, name: str) -> None:
        """Count a step; end the process at its last one."""
        if self.left is None:
            return
        if self.left == 0:
            self.left = None
            raise Died(name)
        self.left -= 1

    @contextmanager
    def after(self, steps: int | None) -> Iterator[None]:
        """End the process after this many steps in the block; None: never."""
        self.left = steps
        try:
            yield
        finally:
            self.left = None


class MortalPipeline(Pipeline):
    """Several commands to Redis, sent as one."""

    reaper: ClassVar[Reaper]

    def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002  the client's signature
        self.reaper.step("before commands to Redis")
        answers = super().execute(raise_on_error)
        self.reaper.step("after commands to Redis")
        return answers


class MortalRedis(Redis):
    """A Redis client with a step before and after each command."""

    reaper: ClassVar[Reaper]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.reaper.step(f"before Redis' {args[0]}")
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        self.reaper.step(f"after Redis' {args[0]}")
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:  # noqa: FBT001, FBT002
        return MortalPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


@contextmanager
def mortal(laboratory: Laboratory, reaper: Reaper) -> Iterator[Runs]:
    """Yield a laboratory's engine, in processes that the reaper can end."""
    parts = laboratory.parts

    def send(message: PageMessage, delay: float) -> None:
        reaper.step("before a message was sent")
        reaper.happen()
        laboratory.send(message, delay)
        reaper.step("after a message was sent")

    with ExitStack() as stack:
        MortalRedis.reaper = MortalPipeline.reaper = reaper
        redis = stack.enter_context(MortalRedis.from_url(laboratory.redis_url, decode_responses=True))
        for name in ("begin", "before_cursor_execute", "after_cursor_execute", "commit"):
            stack.enter_context(_listening(parts.engine, name, reaper))
        cursors = LiveCursors(lambda: redis, lambda: redis)
        pages = replace(parts.chain.pages, live=cursors)
        chain = replace(parts.chain, live=cursors, pages=pages, send=send)
        yield Runs(parts.engine, lambda: chain, parts.backfills)


@contextmanager
def _listening(engine: Engine, name: str, reaper: Reaper) -> Iterator[None]:
    """Count a step at each event of this name while the block runs."""

    def happens(*details: Any) -> None:
        statement = details[2].strip().splitlines()[0] if len(details) > 1 else ""
        reaper.step(f"{name} {statement}")

    listener: Callable[..., None] = happens
    event.listen(engine, name, listener)
    try:
        yield
    finally:
        event.remove(engine, name, listener)
