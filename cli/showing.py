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


def exit_status(seen: Snapshot, *, until_scored: bool = False) -> int:
    """Return the exit status of a command that followed a run; `until_scored`: until its items had their results."""
    run, road = seen.run, seen.road
    if run.state != "complete":
        return FAILED if run.state == "failed" else NOT_COMPLETE
    if until_scored and road is not None and not road.has_ended:
        return NOT_COMPLETE
    is_lacking = until_scored and road is not None and road.without_result
    return QUARANTINED if run.counts.get("quarantined") or is_lacking else COMPLETE


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
        summary(
            seen.backfill,
            seen.run,
            quarantined=quarantined,
            road=seen.road,
            forecast=seen.forecast,
            what_ifs=seen.what_ifs,
            small=seen.small_pages,
            bound=bound,
        )
    )
    if cost is not None:
        click.echo("\n".join(cost_lines(cost)))


def follow_to_the_end(
    context: CommandContext,
    run: RunId,
    *,
    stopped: Stopped,
    as_json: bool,
    until_scored: bool = False,
    on_reading: Callable[[Run], None] = lambda _: None,
) -> int:
    """Follow a run until it ends or the operator detaches; show it and return the exit status.

    `until_scored`: a complete run hasn't ended until no item waits for its result.
    """
    client = context.client
    seen: Snapshot | None = None
    with display() as show_now:
        for seen in client.watch(run, wait=stopped.wait, unreachable=_say_unreachable, until_scored=until_scored):
            on_reading(seen.run)
            show_now(seen)
    has_ended = seen is not None and seen.run.state != "running" and not (until_scored and seen.has_items_on_their_way)
    if seen is not None and has_ended:
        seen = ride_out(lambda: client.status(run), stopped.wait, _say_unreachable)
    if seen is None or not has_ended:
        _say_detached(run, seen, until_scored=until_scored)
        if as_json:
            show(context, client.status(run), as_json=True)
        return NOT_COMPLETE
    show(context, seen, as_json=as_json)
    return exit_status(seen, until_scored=until_scored)


def _say_detached(run: RunId, seen: Snapshot | None, *, until_scored: bool) -> None:
    """Say that the run, or the work on its jobs, goes on without this command."""
    option = " --until-scored" if until_scored else ""
    if seen is not None and seen.run.state == "complete":
        say("Detached. The run is complete, and its jobs go on.")
        say(f"  backfill watch {run}{option}    follows them again")
        return
    say("Detached. The run continues.")
    say(f"  backfill watch {run}{option}    follows it again")
    say(f"  backfill cancel {run}   ends it")


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
