"""The options that say how fast a run may go: of `run` where it starts, of `tune` while it goes on."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
from click.core import ParameterSource

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.errors import UsageError
from backfill_tasks.options import Pace
from backfill_tasks.settings import Settings, jobs_per_minute, max_live_wait, max_pending, whole_number

MOST_LEADS = 10_000
TEN_MINUTES_MS = 600_000
_MINUTE_MS = 60_000
_MOST_JOBS = 1_000_000_000

#: Options that speak of a backfill's jobs, by the name that a run has for them.
OF_JOBS = frozenset(("jobs_per_minute", "max_pending", "max_jobs", "max_live_wait", "cost_per_job"))

Command = Callable[..., Any]


class PageSize(click.IntRange):
    """How many leads a page may have."""

    def __init__(self) -> None:
        super().__init__(1, MOST_LEADS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        number = click.INT.convert(value, param, ctx)
        if number > MOST_LEADS:
            self.fail(
                f"{number:,} leads are too many for one page, which holds their locks until it commits:"
                f" {MOST_LEADS:,} at most; leave --limit away for pages that take a fifth of a second",
                param,
                ctx,
            )
        return int(super().convert(value, param, ctx))


class Bound(click.ParamType[Any]):
    """A value that is read as its setting is; `none` takes the bound away."""

    name = "number"

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; None for no bound."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_OPTIONS = (
    click.option(
        "--jobs-per-minute",
        type=Bound(jobs_per_minute),
        metavar="N",
        help="Spread runAt so that N of the run's jobs come due a minute; none: all at once.",
    ),
    click.option(
        "--max-pending",
        type=Bound(max_pending),
        metavar="N",
        help="Never more than N of our jobs in the host's queue; none: no bound.",
    ),
    click.option(
        "--max-jobs",
        type=Bound(whole_number(1, _MOST_JOBS, off=True)),
        metavar="N",
        help="The run enqueues N jobs at the most, then it pauses; none: no bound (the default).",
    ),
    click.option(
        "--max-live-wait",
        type=Bound(max_live_wait),
        metavar="SECONDS",
        help="No page starts while a due job of any other kind has waited longer; 0: not asked.",
    ),
    click.option(
        "--target-page-ms",
        type=click.IntRange(0, _MINUTE_MS),
        metavar="N",
        help="What a page should take: its size follows, up to --limit; 0: it stays.",
    ),
)


def pace_options(command: Command) -> Command:
    """Give a command the options of a pace."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def is_given(context: click.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_job_options(context: click.Context, backfill: Backfill | type[Backfill]) -> None:
    """Raise UsageError for an option on the command line that speaks of jobs, where the backfill has none."""
    for name in sorted(OF_JOBS):
        if not backfill.jobs and is_given(context, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{backfill.name} enqueues no jobs, and so has no {option}: leave it away")


def pace_of(context: click.Context, options: dict[str, Any], settings: Settings, backfill: type[Backfill]) -> Pace:
    """A new run's pace: what is on the command line, and the settings where it says nothing.

    Raises:
        UsageError: two options say when jobs are due, or there are none to speak of.
    """
    refuse_job_options(context, backfill)
    if not backfill.jobs:
        given = is_given(context, "target_page_ms")
        return Pace(target_page_ms=options["target_page_ms"] if given else settings.target_page_ms)
    spread_by_delay = is_given(context, "delay_ms")
    if spread_by_delay and options["jobs_per_minute"] is not None:
        raise UsageError("--delay-ms and --jobs-per-minute both say when jobs are due: leave one away")
    defaults = Pace(
        jobs_per_minute=None if spread_by_delay else settings.jobs_per_minute,
        max_pending=settings.max_pending,
        max_live_wait=settings.max_live_wait,
        target_page_ms=settings.target_page_ms,
    )
    return Pace(
        **{name: options[name] if is_given(context, name) else default for name, default in asdict(defaults).items()}
    )
