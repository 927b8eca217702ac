"""Checks the workers, their versions, and runs that need an operator."""

from collections.abc import Iterator

from backfill_tasks import __version__
from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.cli.render.lanes import lanes_in_words
from backfill_tasks.cli.render.text import duration
from backfill_tasks.engine import ledger, schema

#: A run without an event for this many seconds may have been forgotten.
_DAY = 86_400


def workers(context: CommandContext) -> Iterator[Finding]:
    """Check that a worker is online, and that all workers have this command's version."""
    from backfill_tasks.worker.fleet import workers as online  # noqa: PLC0415  Celery takes half a second to import

    versions = online()
    if not versions:
        yield Finding("WRONG", "no worker is online", "Start one: backfill worker")
        return
    number = "1 worker is" if len(versions) == 1 else f"{len(versions)} workers are"
    yield Finding("fine", f"{number} online; the rate of all workers together is {context.client.rate()}")
    others = {worker: version for worker, version in versions.items() if version != __version__}
    for worker, version in others.items():
        of = f"has version {version}" if version else "doesn't report its version"
        yield Finding(
            "look",
            f"{worker} {of}, this command has {__version__}",
            "An older worker may not support a newer command. Install the same version and restart it.",
        )
    if not others:
        yield Finding("fine", f"every worker has this command's version, {__version__}")


def leftovers(context: CommandContext) -> Iterator[Finding]:
    """Report runs with stalled lanes, and runs that have waited for an operator for a day."""
    from backfill_tasks.worker.fleet import messages_on_their_way  # noqa: PLC0415  Celery takes half a second to import

    with context.parts.engine.begin() as connection:
        if schema.version(connection) != schema.latest():
            return
        forgotten = ledger.forgotten(connection, _DAY)
        now = connection.exec_driver_sql("SELECT now()").scalar_one()
    stalled_seconds = context.settings.standing_seconds
    lost = context.parts.watchdog.lost(stalled_seconds=stalled_seconds, on_their_way=messages_on_their_way)
    for run in dict.fromkeys(lane.run for lane in lost):
        lanes = lanes_in_words(sum(lane.run == run for lane in lost))
        yield Finding("look", f"run {run} is stalled: the message of {lanes} is lost", _way_on(run))
    for each in forgotten:
        since = duration((now - each.since).total_seconds())
        yield Finding("look", f"run {each.run} has been {each.state} for {since} without an event", _way_on(each.run))
    if not (lost or forgotten):
        yield Finding("fine", "no run is stalled or forgotten")


def _way_on(run: str) -> str:
    return f"`backfill resume {run}` continues it, `backfill cancel {run}` ends it."
