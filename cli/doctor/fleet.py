"""Checks the workers, their versions, and that no run was left behind."""

from collections.abc import Iterator

from backfill_tasks import __version__
from backfill_tasks.cli import render
from backfill_tasks.cli.context import Session
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine import ledger, schema

#: A run without an event for this many seconds may have been forgotten.
_DAY = 86_400


def workers(session: Session) -> Iterator[Finding]:
    """Check that a worker is online that takes pages, and that all of them have this command's version."""
    from backfill_tasks.worker.fleet import workers as online  # noqa: PLC0415  Celery takes half a second to import

    versions = online()
    if not versions:
        yield Finding("WRONG", "no worker is online", "Start one: celery -A backfill_tasks worker")
        return
    number = "1 worker is" if len(versions) == 1 else f"{len(versions)} workers are"
    yield Finding("fine", f"{number} online; the rate of all together is {session.client.rate()}")
    others = {worker: version for worker, version in versions.items() if version != __version__}
    for worker, version in others.items():
        of = f"is of version {version}" if version else "does not tell its version"
        yield Finding(
            "look",
            f"{worker} {of}, this command is of {__version__}",
            "Restart it with the same version: an older worker may not know what a newer command asks for.",
        )
    if not others:
        yield Finding("fine", f"every worker is of this command's version, {__version__}")


def leftovers(session: Session) -> Iterator[Finding]:
    """Report runs with stalled lanes, and runs that have waited for an operator for a day."""
    from backfill_tasks.worker.fleet import messages_on_their_way  # noqa: PLC0415  Celery takes half a second to import

    with session.parts.engine.begin() as connection:
        if schema.version(connection) != schema.latest():
            return
        forgotten = ledger.forgotten(connection, _DAY)
        now = connection.exec_driver_sql("SELECT now()").scalar_one()
    stalled_seconds = session.settings.standing_seconds
    lost = session.parts.runs.lost(stalled_seconds=stalled_seconds, on_their_way=messages_on_their_way)
    for run in dict.fromkeys(lane.run for lane in lost):
        lanes = render.lanes_in_words(sum(lane.run == run for lane in lost))
        yield Finding("look", f"run {run} is running, and {lanes} of it stand: no message is on its way", _way_on(run))
    for each in forgotten:
        since = render.duration((now - each.since).total_seconds())
        yield Finding(
            "look", f"run {each.run} is {each.state}, and nothing has happened to it for {since}", _way_on(each.run)
        )
    if not (lost or forgotten):
        yield Finding("fine", "no run is left over that nothing moves")


def _way_on(run: str) -> str:
    return f"`backfill resume {run}` goes on with it, `backfill cancel {run}` ends it."
