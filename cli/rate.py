"""The command `rate`, and what `run` needs of it."""

import json

import click

from backfill_tasks.engine import live
from backfill_tasks.engine.rate import FleetRate, Rate
from cli import render
from cli.session import Session, say


@click.command()
@click.argument("rate", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def rate(session: Session, rate: str | None, *, as_json: bool) -> None:
    """Show or set how many pages all workers together start in a second.

    RATE is 20/s, 600/m, 30/h, a fraction such as 0.5/s, or none for no limit. It
    holds within two seconds, for workers that start later too, until another is set.

    \b
    Examples:
      backfill rate           the rate, the workers, what waits in each
      backfill rate 20/s
      backfill rate none
    """
    session.require_redis()
    if rate is not None:
        set_rate(session, Rate.parse(rate))
    from backfill_tasks.fleet import waiting_for_the_rate  # noqa: PLC0415  Celery takes half a second to import

    holds = rate_that_holds(session)
    workers = {worker: len(pages) for worker, pages in waiting_for_the_rate().items()}
    if as_json:
        per_second = 1 / holds.interval if holds.interval else None
        click.echo(json.dumps({"rate": holds.text, "pages_per_second": per_second, "workers": workers}))
        return
    click.echo(f"The rate of all workers together is {holds}.")
    if not workers:
        click.echo("No worker is online.")
        return
    click.echo()
    click.echo(render.table(("worker", "waiting for the rate"), [(name, f"{n:,}") for name, n in workers.items()]))


def rate_that_holds(session: Session) -> Rate:
    """The fleet's rate; where Redis knows none yet, the one with which the workers will start."""
    return _fleet_rate(session).read() or Rate.parse(session.settings.rate_limit)


def set_rate(session: Session, rate: Rate) -> None:
    """Let a rate hold for the whole fleet.

    Raises:
        UsageError: it is so low that pages which wait for it would be delivered twice.
    """
    from backfill_tasks.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

    require_room(rate)
    _set(session, rate)


def prepare_rate(session: Session, rate: Rate | None, *, lanes: int) -> None:
    """See to the rate before so many lanes are seeded: set it if one is given.

    Raises:
        UsageError: it is so low that pages which wait for it would be delivered twice.
    """
    from backfill_tasks.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

    require_room(rate or rate_that_holds(session), more=lanes)
    if rate is not None:
        _set(session, rate)


def _set(session: Session, rate: Rate) -> None:
    before = _fleet_rate(session).set(rate) or Rate.parse(session.settings.rate_limit)
    say(f"The rate of all workers together is {rate}; it was {before}.")
    if before != rate and session.settings.database_url is not None:
        session.parts.runs.note_all("rate", {"rate": [before.text, rate.text]})


def _fleet_rate(session: Session) -> FleetRate:
    return FleetRate(live.connect(session.settings.redis_url, patience=0), session.settings.queue)
