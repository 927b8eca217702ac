"""Text for the operator: 80 columns, no colours, the same in a terminal and in a pipe."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from shlex import quote
from textwrap import fill

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.ledger import Event
from backfill_tasks.engine.model import Lane, Quarantined, Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.replica import Server
from backfill_tasks.engine.verification import Verification
from backfill_tasks.escaping import one_line
from backfill_tasks.registry import DEFAULT

WIDTH = 80

#: A lane that hasn't moved for this many seconds is shown as still, with its reason.
STILL_SECONDS = 5.0


def duration(seconds: float) -> str:
    """Return a duration for a reader: 4.2 s, 3 min 20 s, 5 h 10 min, 11 d 3 h."""
    if round(seconds, 1) < 60:  # noqa: PLR2004  seconds per minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def classes(backfill: Backfill, run: Run) -> tuple[str, ...]:
    """Return the names of a run's counts that are shown, in display order."""
    shown = ("read", *backfill.classes, "quarantined")
    return (*shown, *backfill.passed_over) if run.mode == "dry-run" else shown


def meanings_of(backfill: Backfill) -> dict[str, str]:
    """Return what each class of a backfill's items means."""
    return {
        **backfill.classes,
        "quarantined": "failed on their own, kept with their error",
        **backfill.passed_over,
    }


def counts(backfill: Backfill, run: Run) -> list[str]:
    """Return the counts with their meanings, one per line."""
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


def lanes(run: Run) -> list[str]:
    """Return one line per lane, with the reason below lanes that wait or have stopped; neighbours share a reason."""
    lines = ["  lane  state     pages       read  cursor"]
    for alike in _by_reason(run.lanes):
        lines += [_lane(run, lane) for lane in alike]
        reason, kind = alike[0].reason, alike[0].reason_kind
        # The first line of the summary already says that the run is paused.
        if reason and kind != run.state:
            which = f"{_numbers(alike)}: " if len(alike) > 1 else ""
            lines.append(wrapped(f"{which}{_shortened(reason, 600)}", indent=8))
    return lines


def _lane(run: Run, lane: Lane) -> str:
    cursor = _shortened(lane.cursor or "-", 43)
    return f"  {lane.number:>4}  {run.state_of(lane):<9}{lane.page:>6,}{lane.counts.get('read', 0):>11,}  {cursor}"


def _by_reason(lanes: Iterable[Lane]) -> list[list[Lane]]:
    """Group neighbouring lanes that have the same reason, or none."""
    return [
        [lane for _, lane in alike]
        for _, alike in groupby(enumerate(lanes), key=lambda each: (each[1].reason, each[1].number - each[0]))
    ]


def _numbers(alike: Sequence[Lane]) -> str:
    """Return "lane 3" or "lanes 3 to 5"."""
    first, last = alike[0].number, alike[-1].number
    return f"lane {first}" if first == last else f"lanes {first} to {last}"


def outcome(backfill: Backfill, run: Run, found: Outcome) -> list[str]:
    """Return what the host has done with a run's jobs, and when it will have done them all."""
    if not found.known:
        return [f"  {'done by the host':<16}{'not known':>11}   the run began before its jobs were kept by run"]
    lines = [f"  {'done by the host':<16}{found.done:>11,}   {backfill.items} have their score from this run's jobs"]
    for status, number in found.jobs.items():
        waits = status == "PENDING" and found.oldest_seconds is not None
        since = f"   the oldest due one for {duration(found.oldest_seconds or 0)}" if waits else ""
        lines.append(f"    {status:<14}{number:>11,}{since}")
    if found.never_due:
        lines.append(
            f"    {'never due':<14}{found.never_due:>11,}   PENDING, and due in over 100 years: set their runAt"
        )
    per_minute = "-" if found.per_minute is None else f"{found.per_minute:,.1f}/min"
    lines.append(f"    {'drain':<14}{per_minute:>11}   {last_result(backfill, run, found)}")
    return lines


def outcome_in_a_line(backfill: Backfill, run: Run, found: Outcome) -> str:
    """Return the outcome on one line."""
    if not found.known:
        return "  host: not known, the run began before its jobs were kept by run"
    last = last_result(backfill, run, found)
    return _shortened(f"  host: {found.done:,} scored · {found.unended:,} jobs wait · {last}", WIDTH)


def last_result(backfill: Backfill, run: Run, found: Outcome) -> str:
    """Return when the last item will have its result, or why that isn't known."""
    left = found.seconds_left(run.jobs_to_come(backfill.jobs))
    if left is None and found.never_due:
        return f"no end: {found.never_due:,} never come due"
    if left is None:
        return "the end is not yet known"
    if left:
        return f"the last one in about {duration(left)}"
    lacking = found.without_result
    return f"none waits, {lacking:,} ended without a score" if lacking else "all of them are done"


def summary(
    backfill: Backfill,
    run: Run,
    *,
    quarantined: Sequence[Quarantined] = (),
    found: Outcome | None = None,
    small: str | None = None,
    bound: str | None = None,
) -> str:
    """Return the summary of a run: its state, counts, pace, outcome, lanes, quarantine and next steps.

    `small`: why its pages are smaller than the limit. `bound`: the bound on jobs in the host's queue, and why.
    """
    lines = [f"Run {run.id} · {run.parameters.backfill} · {run.mode} · {run.state}"]
    if run.reason:
        lines.append(f"  {one_line(run.reason)}")
    lines += ["", *counts(backfill, run)]
    lines.append(f"  {'pages':<16}{run.pages:>11,}   in {lanes_in_words(len(run.lanes))}")
    if small:
        lines.append(wrapped(small, indent=32))
    lines.append(f"  {'duration':<16}{duration(run.seconds):>11}   {run.items_per_second:,.0f} {backfill.items}/s")
    lines += jobs(backfill, run)
    if bound:
        lines.append(wrapped(bound, indent=32))
    if found is not None:
        lines += ["", *outcome(backfill, run, found)]
    if run.lanes:
        lines += ["", *lanes(run)]
    if quarantined:
        lines += ["", "  quarantined"]
        lines += [with_reason(each.item, each.error, indent=4) for each in quarantined]
        more = run.counts.get("quarantined", 0) - len(quarantined)
        if more > 0:
            lines.append(f"    … and {more:,} more")
    lines += ["", *next_steps(run)]
    return "\n".join(lines)


def next_steps(run: Run) -> list[str]:
    """Return what to do next."""
    if run.mode == "dry-run":
        rest = [] if run.state == "complete" else ["Not all pages were counted."]
        return ["Nothing was changed. To do it: the same command with --apply.", *rest]
    match run.state:
        case "complete":
            retry = f"Next: backfill retry {run.id}   tries those in quarantine again"
            return [*([retry] if run.counts.get("quarantined") else []), f"Next: backfill verify {run.id}"]
        case "running":
            return [f"Next: backfill watch {run.id}", f"      backfill cancel {run.id}   ends it for good"]
        case "paused":
            return _next_steps_of_a_paused_run(run)
        case "failed":
            return [f"Next: mend what stopped the lane, then: backfill resume {run.id}"]
        case "cancelled":
            return [f"What it did stays. A new run does the rest: {_anew(run)}"]


def _anew(run: Run) -> str:
    """Return the command that starts another run of the same backfill over the same leads."""
    name = "" if run.parameters.backfill == DEFAULT else f"{run.parameters.backfill} "
    again = " --rescore-all" if run.parameters.options.get("rescore_all") else ""
    scope = [("--client-id", each) for each in run.parameters.options.get("client_ids") or ()]
    scope += [("--cursor", run.parameters.cursor)] if run.parameters.cursor is not None else []
    return f"backfill run {name}--apply{again}" + "".join(
        f" {option} {quote(one_line(value))}" for option, value in scope
    )


def _next(command: str, why: str) -> list[str]:
    """Return a command and its purpose: on one line if both fit, else on two, so that the command stays whole."""
    line = f"Next: {command}   {why}"
    return [line] if len(line) <= WIDTH else [f"Next: {command}", f"      {why}"]


def jobs(backfill: Backfill, run: Run) -> list[str]:
    """Return how long a run's jobs take to come due and what they cost, as far as known."""
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


#: Events whose details are pairs of old and new values.
_CHANGES = frozenset({"tuned", "rate"})


def event(happened: Event) -> list[str]:
    """Return an event in one line, and its details below, one per line."""
    head = f"{moment(happened.at)}  {happened.name}, by {one_line(happened.who)}"
    said = (wrapped(each, indent=21) for each in details(happened))
    return [_shortened(head, WIDTH), *(line for each in said for line in each.splitlines())]


def moment(at: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def details(happened: Event) -> list[str]:
    """Return an event's details, one per line."""
    return _tuned(happened) if happened.name in _CHANGES else _said(happened)


def _tuned(happened: Event) -> list[str]:
    """Return each changed parameter as old -> new."""
    return [
        f"{words(name)} {in_words(old, empty='none')} -> {in_words(new, empty='none')}"
        for name, (old, new) in happened.detail.items()
    ]


def _said(happened: Event) -> list[str]:
    """Return an event's details, one per line: the state as old -> new, the rest, the parameters, the reason."""
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
    """Return a name with spaces for underscores."""
    return name.replace("_", " ")


def in_words(value: object, *, empty: str = "") -> str:
    """Return a parameter's or detail's value for a reader; `empty` if it is None."""
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
    """Wrap text to 80 columns, indented; `first` replaces the indentation of the first line.

    Options are never broken at their hyphens, so that commands can be copied.
    """
    margin = " " * indent
    return fill(
        said, WIDTH, initial_indent=margin if first is None else first, subsequent_indent=margin, break_on_hyphens=False
    )


def with_reason(item: str, reason: str, *, indent: int, most: int = 400) -> str:
    """Return an item and its reason on one line of 80 columns, or the reason below the item."""
    head, said = f"{' ' * indent}{one_line(item)}", _shortened(reason, most)
    whole = f"{head}  {said}"
    return whole if len(whole) <= WIDTH else f"{head}\n{wrapped(said, indent=indent + 4)}"


def _next_steps_of_a_paused_run(run: Run) -> list[str]:
    resume = f"backfill resume {run.id}"
    most = run.parameters.pace.max_jobs
    if most is not None and (run.reason or "").startswith("its budget"):
        return [f"Next: backfill tune {run.id} --max-jobs N   N above {most:,}, or none", f"      {resume}"]
    return [f"Next: {resume}   goes on where it stopped"]


def verification(
    backfill: Backfill, run: Run, found: Verification, *, server: Server | None = None, most: int = 20
) -> str:
    """Return the result of a verification, with up to `most` items of each kind."""
    lines = [f"Verification of run {run.id} · {run.state}", ""]
    if run.state != "complete":
        lines.append("  The run is not complete: only what its lanes have passed is looked at.")
    if server is not None and server.replayed is not None:
        lines += _server(server)
    lines.append(f"  {backfill.items + ' looked at':<20}{found.looked_at:>11,}")
    lines.append(f"  {backfill.items} without a result  {len(found.missing):>11,}")
    lines += _items(found.missing, most)
    if found.hidden:
        lines.append(f"  {'hidden by an index':<20}{len(found.hidden):>11,}   a run would pass them over again")
        lines += _items(found.hidden, most)
    if found.left_alone:
        lines.append(f"  {'a run leaves alone':<20}{len(found.left_alone):>11,}   {backfill.left_alone}")
        lines += _items(found.left_alone, most)
    for name, (counted, there) in found.found.items():
        lines.append(f"  {name.replace('_', ' '):<20}{counted:>11,} counted{there:>11,} in the database")
        if there < counted:
            lines.append(f"    {counted - there:,} were changed or deleted since, by the host or a later run")
    lines += _without_a_result(backfill, found, most)
    if found.waiting:
        lines.append(f"  {'still to be done':<20}{found.waiting:>11,}   their jobs wait for the host, or are at work")
    if found.arrived:
        lines.append(f"  {'arrived since':<20}{found.arrived:>11,}   too late to be this run's: the host's own")
    lines += [f"  WRONG: {one_line(each)}" for each in found.contradictions[:most]]
    lines += ["", _verdict(backfill, run, found), *_remedies(run, found)]
    return "\n".join(lines)


def _server(standby: Server) -> list[str]:
    """Return which standby was read, and whether it is known to follow the primary."""
    lines = [wrapped(one_line(str(standby)), indent=22, first=f"  {'read from':<20}")]
    if not standby.related:
        unknown = "whether it follows DATABASE_URL's server is not known: this role may not call pg_control_system()"
        lines.append(wrapped(unknown, indent=22))
    return lines


def _without_a_result(backfill: Backfill, found: Verification, most: int) -> list[str]:
    """Return the items in quarantine, and those whose jobs ended without a result."""
    lines = []
    if found.quarantined:
        lines.append(f"  {'in quarantine':<20}{found.quarantined:>11,}   failed on their own, kept with their error")
    for name, meaning in backfill.unresolved.items():
        items = found.unresolved.get(name, ())
        if items:
            lines += [f"  {words(name):<20}{len(items):>11,}   {meaning}", *_items(items, most)]
    return lines


def _items(items: Sequence[str], most: int) -> list[str]:
    """Return the first `most` ids, one per line, and how many more there are."""
    more = [f"    … and {len(items) - most:,} more; --json lists all"] if len(items) > most else []
    return [*(f"    {one_line(item)}" for item in items[:most]), *more]


def _verdict(backfill: Backfill, run: Run, found: Verification) -> str:
    """Return the verdict. Only a run that was looked at and has no open items is clean."""
    if found.clean:
        return "Clean: nothing is missing, and no count is contradicted."
    if found.wrong:
        return "NOT CLEAN."
    if not run.has_passed_any:
        return f"Nothing to verify: the run has passed no {backfill.items}."
    if not found.looked_at:
        return f"NOT VERIFIED: none of the {backfill.items} that the run has passed can be seen any more."
    unresolved = found.quarantined + sum(map(len, found.unresolved.values()))
    return f"NOT CLEAN. Nothing is missing, but some {backfill.items} have no result: {unresolved:,}."


def _remedies(run: Run, found: Verification) -> list[str]:
    """Return the commands that fix what the verification found."""
    lines = []
    if found.quarantined:
        lines.append(f"Next: backfill retry {run.id}   tries those in quarantine again")
    if found.hidden:
        lines.append('Next: "A damaged index" in docs/runbook.md, before any other run')
    if len(found.missing) > len(found.left_alone):
        lines += _next(_anew(run), "does what is missing")
    elif any(found.unresolved.values()):
        lines += _next(_anew(run), "enqueues the others again")
    if found.left_alone:
        lines.append('Next: "What a run leaves alone" in docs/runbook.md has the SQL for the rest')
    return lines


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in aligned columns; the last column may have any length."""
    every = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    )


def runs(found: Iterable[Run]) -> str:
    """Return one line per run; a full line shortens its last column, the backfill."""
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
    """Return a run's progress on one line."""
    read = run.counts.get("read", 0)
    done = sum(lane.state == "done" for lane in run.lanes)
    of = f" of {run.expected:,} ({100 * read / run.expected:.0f}%)" if run.expected else f" {backfill.items}"
    rate = f"{run.items_per_second:,.0f}/s"
    return f"{run.state}: {read:,}{of} · {run.pages:,} pages · {rate} · {done}/{len(run.lanes)} lanes"


def troubles(run: Run) -> list[str]:
    """Return the lanes that wait, have stopped or don't move: since when, and why. Empty if all goes well."""
    troubled = [lane for lane in run.lanes if lane.reason or is_still(run, lane)]
    return [_trouble(run, alike) for alike in _by_reason(troubled)]


def _trouble(run: Run, alike: Sequence[Lane]) -> str:
    still = max((run.still_seconds(lane) for lane in alike if is_still(run, lane)), default=None)
    since = "" if still is None else f", no page for {duration(still)}"
    reason = _shortened(alike[0].reason or "looking for the reason", 600)
    return wrapped(f"{_numbers(alike)}{since}: {reason}", indent=4, first="  ")


def is_still(run: Run, lane: Lane) -> bool:
    """Return whether a lane of a running run hasn't moved for more than STILL_SECONDS."""
    return run.state == lane.state == "running" and run.still_seconds(lane) > STILL_SECONDS


def lanes_in_words(number: int) -> str:
    """Return "1 lane" or "2 lanes"."""
    return "1 lane" if number == 1 else f"{number} lanes"


def _shortened(text: str, most: int) -> str:
    """Return a text on one line, escaped, and cut to `most` characters."""
    shown = one_line(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
