"""The rate of all workers together, as commands read and set it."""

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.rate import FleetRate, Rate
from cli.context import Session, say


def rate_that_holds(session: Session) -> Rate:
    """The fleet's rate; where Redis knows none yet, the one with which the workers will start."""
    return _fleet_rate(session).read() or Rate.parse(session.settings.rate_limit)


def set_rate(session: Session, rate: Rate) -> None:
    """Let a rate hold for the whole fleet.

    Raises:
        UsageError: it is so low that pages which wait for it would be delivered twice.
    """
    from backfill_tasks.worker.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

    require_room(rate)
    _set(session, rate)


def prepare_rate(session: Session, rate: Rate | None, *, lanes: int) -> None:
    """See to the rate before so many lanes are seeded: set it if one is given.

    Raises:
        UsageError: it is so low that pages which wait for it would be delivered twice.
    """
    from backfill_tasks.worker.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

    require_room(rate or rate_that_holds(session), more=lanes)
    if rate is not None:
        _set(session, rate)


def _set(session: Session, rate: Rate) -> None:
    before = _fleet_rate(session).set(rate) or Rate.parse(session.settings.rate_limit)
    say(f"The rate of all workers together is {rate}; it was {before}.")
    if before != rate and session.settings.database_url is not None:
        session.parts.runs.note_all("rate", {"rate": [before.text, rate.text]})


def _fleet_rate(session: Session) -> FleetRate:
    return FleetRate(redis_client.connect(session.settings.redis_url, patience=0), session.settings.queue)
