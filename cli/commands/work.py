"""The command `work`: score leads here, with workers of our own."""

import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli.context import COMPLETE, NOT_COMPLETE, CommandContext, say
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.due_summaries import DueSummaries
from backfill_tasks.cli.render import work as render
from backfill_tasks.cli.render.distribution import distribution_lines
from backfill_tasks.cli.signals import Stopped, signals
from backfill_tasks.engine.database import reason
from backfill_tasks.engine.states import RUN_STATES
from backfill_tasks.errors import UsageError
from backfill_tasks.outages import ride_out
from backfill_tasks.registry import DEFAULT
from backfill_tasks.scoring.parameters import DEFAULT_SCORER, Parameters

if TYPE_CHECKING:
    from backfill_tasks.scoring.sessions import Session

#: How often a session that is followed is read, in seconds.
_LOOK_SECONDS = 1.0


class _Money(click.ParamType[Decimal]):
    """An amount of money in decimal digits: never a float."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return the amount."""
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount <= 0:
            self.fail(f"{value!r} is not an amount of money: write 25.00", param, ctx)
        return amount


@click.command()
@click.option("--scorer", default=DEFAULT_SCORER, metavar="NAME", help=f"The scorer (default: {DEFAULT_SCORER}).")
@click.option("--batch", type=int, metavar="N", help="Jobs that a batch claims (default: 256; openai-batch: 2,000).")
@click.option(
    "--concurrency",
    type=int,
    metavar="N",
    default=Parameters.concurrency,
    help="Requests of a batch in flight at once (default: 64).",
)
@click.option(
    "--parallel",
    type=int,
    metavar="N",
    default=Parameters.parallel,
    help="Batches in progress at once, over all workers (default: 2).",
)
@click.option("--max-spend", type=_Money(), metavar="AMOUNT", help="The budget, which is never exceeded: 25.00.")
@click.option("--until-done", is_flag=True, help="End once every job of ours has ended and no run is running.")
@click.option("--detach", is_flag=True, help="Return as soon as scoring has started.")
@click.option("--compare", is_flag=True, help="Compare the scorer with scores that leads already have; writes nothing.")
@click.option(
    "--sample",
    type=int,
    metavar="N",
    default=25,
    help="With --compare: leads of each workspace and score (default: 25).",
)
@click.option("--stop", is_flag=True, help="Stop scoring: send no further request, and cancel batches at a provider.")
@click.option("--status", is_flag=True, help="Show the session that is running, or else the newest.")
@as_json
@click.pass_context
def work(click_context: click.Context, /, **options: Any) -> None:
    """Score leads here instead of leaving them to the host's runner.

    Claims the backfill's own jobs, and those only, by the protocol of the host's
    runner, so both may work beside each other. Jobs of `backfill run --score-here`
    are claimed at once. Needs a worker that takes scoring's queue:

    \b
      backfill worker -Q backfill.scoring

    Ctrl-C stops watching; scoring goes on. Exit status: 0 complete (or --detach,
    --stop, --status), 4 stopped, out of budget, or still running.

    \b
    Examples:
      backfill work --scorer rules --until-done
      backfill work --scorer openai --max-spend 25.00
      backfill work --scorer openai-batch --max-spend 25.00 --parallel 8
      backfill work --scorer rules --compare
      backfill work --status
      backfill work --stop
    """
    context: CommandContext = click_context.obj
    modes = [name for name in ("stop", "status", "compare") if options[name]]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} contradict each other")
    if options["compare"]:
        _compare(context, options)
        return
    if options["stop"]:
        found, stopped = context.client.stop_work()
        _show(context, found, as_json=options["as_json"])
        if not stopped:
            say(f"Scoring {found.id} was {found.state} already.")
        return
    if options["status"]:
        _show(context, context.client.work_status(), as_json=options["as_json"])
        return
    click_context.exit(_start(context, options))


def _compare(context: CommandContext, options: dict[str, Any]) -> None:
    names = ("sample", "concurrency", "max_spend")
    found = context.client.compare(options["scorer"], **{name: options[name] for name in names})
    if options["as_json"]:
        click.echo(json.dumps(render.comparison_as_json(found), ensure_ascii=False))
        return
    click.echo(render.comparison(found))


def _start(context: CommandContext, options: dict[str, Any]) -> int:
    names = ("batch", "concurrency", "parallel", "max_spend", "until_done")
    started = context.client.work(options["scorer"], **{name: options[name] for name in names})
    say(f"Scoring {started.id} started: {context.parts.address}.")
    _say_whether_a_worker_is_online(context)
    if options["detach"]:
        say("`backfill work --status` shows it, `backfill work --stop` ends it.")
        ended: Session | None = started
    else:
        with signals() as stopped:
            ended = _follow(context, started.id, stopped)
    found = ended or started
    _show(context, found, as_json=options["as_json"])
    if found.state == "complete" and not options["as_json"]:
        _show_scores(context)
    if found.state == "running" and not options["detach"]:
        say("Scoring goes on: `backfill work --status` shows it, `backfill work --stop` ends it.")
    return COMPLETE if found.state == "complete" or options["detach"] else NOT_COMPLETE


def _show_scores(context: CommandContext) -> None:
    """Show the scores of the newest run. If they can't be counted, say so: the session has ended all the same."""
    run = context.client.newest(RUN_STATES, DEFAULT)
    if run is None:
        return
    try:
        found = context.client.distribution(run)
    except DBAPIError as error:
        say(f"`backfill report {run}` shows the scores. They can't be counted now: {reason(error)}")
        return
    if found is not None:
        lines = distribution_lines(context.parts.backfills[DEFAULT], context.client.run(run), found)
        click.echo("\n".join(["", *lines]))


def _follow(context: CommandContext, started: str, stopped: Stopped) -> "Session | None":
    """Say how a session gets on until it ends or a signal comes; return it as it was last read."""
    away = "PostgreSQL doesn't answer. This view waits for it, and so does scoring."
    due = DueSummaries()
    while True:
        found = ride_out(lambda: context.client.work_status(started), stopped.wait, lambda _: say(away))
        if found is None or found.state != "running" or stopped.wait(_LOOK_SECONDS):
            return found
        if due(found):
            say(render.summary(found, context.settings.scoring_queue))


def _show(context: CommandContext, found: "Session", *, as_json: bool) -> None:
    text = render.summary(found, context.settings.scoring_queue)
    click.echo(json.dumps(render.as_json(found), ensure_ascii=False) if as_json else text)


def _say_whether_a_worker_is_online(context: CommandContext) -> None:
    from backfill_tasks.worker.fleet import is_any_scoring  # noqa: PLC0415  Celery takes half a second to import

    if not is_any_scoring():
        queue = context.settings.scoring_queue
        say(f"No worker takes batches. Start one: backfill worker -Q {queue}")
        say("Scoring starts as soon as one is online.")
