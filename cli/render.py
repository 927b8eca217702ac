"""Text for the operator: 80 columns, no colours, the same in a terminal and in a pipe."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import fill
from types import MappingProxyType

from backfill_tasks.engine.backfill import Backfill
from backfill_tasks.engine.ledger import Event
from backfill_tasks.engine.model import Quarantined, Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.verification import Verification
from backfill_tasks.registry import DEFAULT

WIDTH = 80

#: No lane is held up by anything that the ledger does not know of.
NOTHING: Mapping[int, str] = MappingProxyType({})

#: A run in which no lane has moved for so long is said to stand.
STILL_SECONDS = 20.0


def duration(seconds: float) -> str:
    """A length of time as one reads it: 4.2 s, 3 min 20 s, 5 h 10 min, 11 d 3 h."""
    if round(seconds, 1) < 60:  # noqa: PLR2004  seconds a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def classes(backfill: Backfill, run: Run) -> tuple[str, ...]:
    """The counts that are shown of a run, in their order."""
    shown = ("read", *backfill.classes, "quarantined")
    return (*shown, *backfill.passed_over) if run.mode == "dry-run" else shown


def meanings_of(backfill: Backfill) -> dict[str, str]:
    """What the classes of its items mean."""
    return {
        **backfill.classes,
        "quarantined": "failed on their own, kept with their error",
        **backfill.passed_over,
    }


def counts(backfill: Backfill, run: Run) -> list[str]:
    """The counts, a line each, with what they mean."""
    meanings, found = meanings_of(backfill), run.counts
    lines = [f"  {backfill.items + ' read':<16}{found.get('read', 0):>11,}"]
    lines += [
        f"    {name.replace('_', ' '):<14}{found.get(name, 0):>11,}   {meanings[name]}"
        for name in (*backfill.classes, "quarantined")
    ]
    if run.mode == "dry-run":
        lines.append("  not read")
        lines += [
            f"    {name.replace('_', ' '):<14}{found.get(name, 0):>11,}   {meanings[name]}"
            for name in backfill.passed_over
        ]
    return lines


def lanes(run: Run, holdups: Mapping[int, str] = NOTHING) -> list[str]:
    """The lanes, a line each, and beneath one that is held up or stopped the reason: the ledger's, or one of these."""
    lines = ["  lane  state     pages       read  cursor"]
    for lane in run.lanes:
        read = lane.counts.get("read", 0)
        cursor = _shortened(lane.cursor or "-", 43)
        lines.append(f"  {lane.number:>4}  {run.state_of(lane):<9}{lane.page:>6,}{read:>11,}  {cursor}")
        reason = lane.reason or holdups.get(lane.number)
        if reason:
            lines.append(wrapped(_shortened(reason, 400), indent=8))
    return lines


def outcome(backfill: Backfill, run: Run, found: Outcome) -> list[str]:
    """What the host has made of a run's jobs, and when it will have done them all."""
    scored = found.done + run.counts.get("disqualified", 0)
    lines = [f"  {'done by the host':<16}{scored:>11,}   {backfill.items} have their score from this run"]
    for status, number in found.jobs.items():
        waits = status == "PENDING" and found.oldest_seconds is not None
        since = f"   the oldest due one for {duration(found.oldest_seconds or 0)}" if waits else ""
        lines.append(f"    {status:<14}{number:>11,}{since}")
    per_minute = "-" if found.per_minute is None else f"{found.per_minute:,.1f}/min"
    lines.append(f"    {'drain':<14}{per_minute:>11}   {last_result(backfill, run, found)}")
    return lines


def outcome_in_a_line(backfill: Backfill, run: Run, found: Outcome) -> str:
    """The same on one line."""
    scored = found.done + run.counts.get("disqualified", 0)
    last = last_result(backfill, run, found)
    return _shortened(f"  host: {scored:,} scored · {found.unended:,} jobs wait · {last}", WIDTH)


def last_result(backfill: Backfill, run: Run, found: Outcome) -> str:
    """When the last item will have its result, or that this is not known."""
    left = found.seconds_left(run.jobs_to_come(backfill.jobs))
    if left is None:
        return "the end is not yet known"
    return f"the last one in about {duration(left)}" if left else "all of them are done"


def summary(
    backfill: Backfill,
    run: Run,
    *,
    quarantined: Sequence[Quarantined] = (),
    found: Outcome | None = None,
    holdups: Mapping[int, str] = NOTHING,
    small: str | None = None,
) -> str:
    """What an operator wants to read when a run has ended, or when they ask how it stands.

    `small`: why its pages are smaller than it would have them.
    """
    lines = [f"Run {run.id} · {run.parameters.backfill} · {run.mode} · {run.state}"]
    if run.reason:
        lines.append(f"  {run.reason}")
    lines += ["", *counts(backfill, run)]
    lines.append(f"  {'pages':<16}{run.pages:>11,}   in {lanes_in_words(len(run.lanes))}")
    if small:
        lines.append(wrapped(small, indent=32))
    lines.append(f"  {'duration':<16}{duration(run.seconds):>11}   {run.leads_per_second:,.0f} {backfill.items}/s")
    lines += jobs(backfill, run)
    if found is not None:
        lines += ["", *outcome(backfill, run, found)]
    if run.lanes:
        lines += ["", *lanes(run, holdups)]
    if quarantined:
        lines += ["", "  quarantined"]
        lines += [f"    {each.item}  {_shortened(each.error, 400)}" for each in quarantined]
        more = run.counts.get("quarantined", 0) - len(quarantined)
        if more > 0:
            lines.append(f"    … and {more:,} more")
    lines += ["", *next_steps(run)]
    return "\n".join(lines)


def next_steps(run: Run) -> list[str]:
    """What to do now."""
    if run.mode == "dry-run":
        rest = [] if run.state == "complete" else ["Not all pages were counted."]
        return ["Nothing was changed. To do it: the same command with --apply.", *rest]
    match run.state:
        case "complete":
            return [f"Next: backfill verify {run.id}"]
        case "running":
            return [f"Next: backfill watch {run.id}", f"      backfill cancel {run.id}   ends it for good"]
        case "paused":
            return _next_steps_of_a_paused_run(run)
        case "failed":
            return [f"Next: mend what stopped the lane, then: backfill resume {run.id}"]
        case "cancelled":
            return [f"What it did stays. A new run does the rest: {_anew(run)}"]


def _anew(run: Run) -> str:
    """The command that starts another run of the same backfill."""
    name = "" if run.parameters.backfill == DEFAULT else f"{run.parameters.backfill} "
    return f"backfill run {name}--apply"


def jobs(backfill: Backfill, run: Run) -> list[str]:
    """How many jobs a run enqueues, how long they take to come due, and what they cost, as far as that is known."""
    number = run.jobs(backfill.jobs)
    if not backfill.jobs or not number:
        return []
    pace, cost = run.parameters.pace, run.parameters.cost_per_job
    lines = []
    if pace.jobs_per_minute is not None:
        spread = duration(60 * number / pace.jobs_per_minute)
        lines.append(f"  {'spread over':<16}{spread:>11}   {pace.jobs_per_minute:g} jobs come due a minute")
    if cost is not None:
        lines.append(f"  {'cost':<16}{number * cost:>11,.2f}   {number:,} jobs at {cost:g}")
    return lines


#: Events whose details are pairs of what was and what is.
_CHANGES = frozenset({"tuned", "rate"})


def event(happened: Event) -> list[str]:
    """What happened to a run: a line, and where there is more to say others under it."""
    head = f"{moment(happened.at)}  {happened.name}, by {happened.who}"
    said = (wrapped(each, indent=21) for each in details(happened))
    return [_shortened(head, WIDTH), *(line for each in said for line in each.splitlines())]


def moment(at: datetime) -> str:
    """A moment to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def details(happened: Event) -> list[str]:
    """What there is to say of an event beside its name, a line each."""
    return _tuned(happened) if happened.name in _CHANGES else _said(happened)


def _tuned(happened: Event) -> list[str]:
    """Each parameter that was changed: old -> new."""
    return [
        f"{words(name)} {in_words(old, empty='none')} -> {in_words(new, empty='none')}"
        for name, (old, new) in happened.detail.items()
    ]


def _said(happened: Event) -> list[str]:
    """What else there is to say, a line each: states as old -> new, parameters in one, reasons in words."""
    detail = dict(happened.detail)
    old, new, reason = detail.pop("old", None), detail.pop("new", None), detail.pop("reason", None)
    parameters = dict(detail.pop("parameters", {}))
    if "lanes" in parameters:
        wanted, made = parameters["lanes"], detail.pop("lanes", None)
        parameters["lanes"] = wanted if made in (None, wanted) else f"{made} of {wanted}"
    states = f"{old} -> {new}" if old and new else f"it was {old}" if old else ""
    rest = ", ".join(_pair(name, value) for name, value in detail.items() if value not in (None, []))
    asked = ", ".join(_pair(name, value) for name, value in parameters.items() if value not in (None, False, 0))
    return [each for each in (states, rest, asked, reason) if each]


def _pair(name: str, value: object) -> str:
    return f"{words(name)} {in_words(value)}"


def words(name: str) -> str:
    """A name as one reads it."""
    return name.replace("_", " ")


def in_words(value: object, *, empty: str = "") -> str:
    """A parameter's or a detail's value in words; `empty` where there is none."""
    match value:
        case None:
            return empty
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.6f}".rstrip("0").rstrip(".")
        case int():
            return f"{value:,}"
        case list():
            return " ".join(str(each) for each in value)
    return str(value)


def wrapped(said: str, *, indent: int, first: str | None = None) -> str:
    """Text in lines of 80 columns, so far from the left; `first` stands before the first line, of that width."""
    return fill(said, WIDTH, initial_indent=" " * indent if first is None else first, subsequent_indent=" " * indent)


def _next_steps_of_a_paused_run(run: Run) -> list[str]:
    resume = f"backfill resume {run.id}"
    most = run.parameters.pace.max_jobs
    if most is not None and (run.reason or "").startswith("its budget"):
        return [f"Next: backfill tune {run.id} --max-jobs N   N above {most:,}, or none", f"      {resume}"]
    return [f"Next: {resume}   goes on where it stopped"]


def verification(backfill: Backfill, run: Run, found: Verification, *, most: int = 20) -> str:
    """What the verification found, and which items."""
    lines = [f"Verification of run {run.id} · {run.state}", ""]
    if run.state != "complete":
        lines.append("  The run is not complete: only what its lanes have passed is looked at.")
    lines.append(f"  {backfill.items} without a result  {len(found.missing):>11,}")
    lines += [f"    {item}" for item in found.missing[:most]]
    if len(found.missing) > most:
        lines.append(f"    … and {len(found.missing) - most:,} more; --json lists all")
    for name, (counted, there) in found.found.items():
        lines.append(f"  {name.replace('_', ' '):<20}{counted:>11,} counted{there:>11,} in the database")
        if there < counted:
            lines.append(f"    {counted - there:,} were changed or deleted since, by the host or a later run")
    if found.quarantined:
        lines.append(f"  {'in quarantine':<20}{found.quarantined:>11,}")
    if found.arrived:
        lines.append(f"  {'arrived since':<20}{found.arrived:>11,}   too late to be this run's: the host's own")
    lines += [f"  WRONG: {each}" for each in found.contradictions[:most]]
    lines += ["", "Clean: nothing is missing, and no count is contradicted." if found.clean else "NOT CLEAN."]
    if found.missing:
        lines.append(f"Next: {_anew(run)}   does what is missing")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as what is in them; the last may be of any length."""
    every = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    )


def runs(found: Iterable[Run]) -> str:
    """One line a run; the last column, its backfill, gives way where a line is full."""
    rows = [
        (
            run.id,
            run.state,
            duration(run.seconds),
            f"{run.counts.get('read', 0):,}",
            f"{run.counts.get('quarantined', 0):,}",
            run.parameters.backfill,
        )
        for run in found
    ]
    lines = table(("run", "state", "duration", "read", "quarantined", "backfill"), rows).splitlines()
    return "\n".join(_shortened(line, WIDTH) for line in lines)


def progress(backfill: Backfill, run: Run) -> str:
    """How far a run is, on one line."""
    read = run.counts.get("read", 0)
    done = sum(lane.state == "done" for lane in run.lanes)
    of = f" of {run.expected:,} ({100 * read / run.expected:.0f}%)" if run.expected else f" {backfill.items}"
    rate = f"{run.leads_per_second:,.0f}/s"
    return f"{run.state}: {read:,}{of} · {run.pages:,} pages · {rate} · {done}/{len(run.lanes)} lanes"


def troubles(run: Run, holdups: Mapping[int, str] = NOTHING) -> list[str]:
    """What holds a run up, or has stopped a part of it, a line each; empty if all goes well."""
    found = ((lane.number, lane.reason or holdups.get(lane.number)) for lane in run.lanes)
    reasons = [_shortened(f"  lane {number}: {reason}", WIDTH) for number, reason in found if reason]
    return reasons or standing(run)


def standing(run: Run) -> list[str]:
    """That no lane of a run has moved for a while, and nothing is known to hold them."""
    if not is_standing(run) or any(lane.reason for lane in run.lanes):
        return []
    return [f"  no page for {duration(run.still_seconds)}: no worker, or a low rate? `backfill doctor` looks"]


def is_standing(run: Run) -> bool:
    """Whether a run should move and has not done so for a while."""
    return run.state == "running" and run.still_seconds > STILL_SECONDS


def lanes_in_words(number: int) -> str:
    """1 lane, 2 lanes."""
    return "1 lane" if number == 1 else f"{number} lanes"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
