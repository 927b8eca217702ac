"""The command `rate`: show or set the rate of all workers together."""

import json

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.fleet_rate import say_the_new_rate
from backfill_tasks.cli.render.text import table
from backfill_tasks.engine.rate import Rate


@click.command()
@click.argument("rate", required=False)
@as_json
@click.pass_obj
def rate(context: CommandContext, rate: str | None, *, as_json: bool) -> None:
    """Show or set the rate of pages of all workers together.

    RATE is 20/s, 600/m, 30/h, a fraction such as 0.5/s, or none for no limit. Workers
    follow it within two seconds. It stays until you set another, for new workers, too.

    \b
    Examples:
      backfill rate           show the rate, and the pages that wait for it
      backfill rate 20/s
      backfill rate none
    """
    context.client.require_redis()
    if rate is not None:
        wanted = Rate.parse(rate)
        say_the_new_rate(wanted, context.client.set_rate(wanted))
    from backfill_tasks.worker.fleet import waiting_for_the_rate  # noqa: PLC0415  Celery takes half a second to import

    current = context.client.rate()
    workers = {worker: len(pages) for worker, pages in waiting_for_the_rate().items()}
    if as_json:
        per_second = 1 / current.interval if current.interval else None
        click.echo(json.dumps({"rate": current.text, "pages_per_second": per_second, "workers": workers}))
        return
    click.echo(f"The rate of all workers together is {current}.")
    if not workers:
        click.echo("No worker is online.")
        return
    click.echo()
    click.echo(table(("worker", "pages waiting for the rate"), [(name, f"{n:,}") for name, n in workers.items()]))
