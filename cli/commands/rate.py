"""The command `rate`: show or set the rate of all workers together."""

import json

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import Session
from backfill_tasks.cli.fleet_rate import say_the_new_rate
from backfill_tasks.engine.rate import Rate


@click.command()
@click.argument("rate", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def rate(session: Session, rate: str | None, *, as_json: bool) -> None:
    """Show or set how many pages all workers start per second.

    RATE is 20/s, 600/m, 30/h, a fraction such as 0.5/s, or none for no limit. It takes
    effect within two seconds and stays until it is set again, for new workers too.

    \b
    Examples:
      backfill rate           the rate, and each worker's waiting pages
      backfill rate 20/s
      backfill rate none
    """
    session.client.require_redis()
    if rate is not None:
        wanted = Rate.parse(rate)
        say_the_new_rate(wanted, session.client.set_rate(wanted))
    from backfill_tasks.worker.fleet import waiting_for_the_rate  # noqa: PLC0415  Celery takes half a second to import

    holds = session.client.rate()
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
