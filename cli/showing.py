"""Shows a run once, or follows it to its end."""

import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import click
from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli.context import COMPLETE, FAILED, NOT_COMPLETE, QUARANTINED, CommandContext, say
from backfill_tasks.cli.render.cost import cost_as_json, cost_lines
from backfill_tasks.cli.render.lanes import lanes_in_words
from backfill_tasks.cli.render.summary import summary
from backfill_tasks.cli.render.text import wrapped
from backfill_tasks.cli.signals import Stopped
from backfill_tasks.cli.watch import display
from backfill_tasks.engine.database import reason
from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.outages import ride_out
from backfill_tasks.snapshot import Snapshot

if TYPE_CHECKING:
    from backfill_tasks.scoring.cost import CostForecast

#: How many quarantined items are listed with their errors.
_MOST_QUARANTINED = 10


def exit_status(run: Run) -> int:
    """Return the exit status of a command that followed this run."""
    if run.state == "complete":
        return QUARANTINED if run.counts.get("quarantined") else COMPLETE
    return FAILED if run.state == "failed" else NOT_COMPLETE


def show(context: CommandContext, seen: Snapshot, *, as_json: bool, cost: "CostForecast | None" = None) -> None:
    """Print a run's summary, or its JSON object, on standard output; of a dry run, also a forecast of its cost."""
    if as_json:
        more = {} if cost is None else {"cost_forecast": cost_as_json(cost)}
        click.echo(json.dumps({**seen.as_json(), **more}, ensure_ascii=False))
        return
    quarantined = []
    if seen.run.counts.get("quarantined"):
        quarantined = context.client.quarantined(seen.run.id, most=_MOST_QUARANTINED)
    bound = seen.bound.reason if seen.bound else None
    click.echo(
        summary(seen.backfill, seen.run, quarantined=quarantined, found=seen.host, small=seen.small_pages, bound=bound)
    )
    if cost is not None:
        click.echo("\n".join(cost_lines(cost)))


def follow_to_the_end(
    context: CommandContext,
    run: RunId,
    *,
    stopped: Stopped,
    as_json: bool,
    on_reading: Callable[[Run], None] = lambda _: None,
) -> int:
    """Follow a run until it ends or the operator detaches; show it and return the exit status."""
    client = context.client
    seen: Snapshot | None = None
    with display() as show_now:
        for seen in client.watch(run, wait=stopped.wait, unreachable=_say_unreachable):
            on_reading(seen.run)
            show_now(seen)
    if seen is not None and seen.run.state != "running":
        seen = ride_out(lambda: client.status(run), stopped.wait, _say_unreachable)
    if seen is None or seen.run.state == "running":
        say("Detached. The run continues.")
        say(f"  backfill watch {run}    follows it again")
        say(f"  backfill cancel {run}   ends it")
        if as_json:
            show(context, client.status(run), as_json=True)
        return NOT_COMPLETE
    show(context, seen, as_json=as_json)
    return exit_status(seen.run)


def _say_unreachable(error: DBAPIError) -> None:
    say(wrapped(f"The database does not answer: {reason(error)}.", indent=0))
    say("The run continues if its workers reach the database. Trying again.")


def say_whether_workers_are_online(*, pages: int = 0) -> None:
    """Tell the operator to start a worker if none is online. `pages`: how many pages the run has done."""
    from backfill_tasks.worker.fleet import is_any_online  # noqa: PLC0415  Celery takes half a second to import

    if not is_any_online():
        say("No worker is online. Start one: backfill worker")
        say(f"The run {'continues' if pages else 'starts'} as soon as a worker is online.")


def say_whether_a_worker_can_drain() -> None:
    """Tell the operator to start a worker if none is online."""
    from backfill_tasks.worker.fleet import is_any_online  # noqa: PLC0415  Celery takes half a second to import

    if not is_any_online():
        say("No worker is online. The workers make the calls. Start one, and beat:")
        say("  backfill worker")
        say("  backfill beat")


def say_what_redis_had_lost(lanes: Collection[int]) -> None:
    """Report how many lanes took their cursor from the ledger, if any did."""
    if lanes:
        say(f"Redis had lost the cursor of {lanes_in_words(len(lanes))}: it was restored from the ledger.")
