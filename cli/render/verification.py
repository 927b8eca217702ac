"""The result of a verification: its numbers, its verdict, and the commands that fix what it found."""

from collections.abc import Sequence
from shlex import quote

from backfill_tasks.cli.render.next_steps import anew, retry_step, step
from backfill_tasks.cli.render.road import still_waiting
from backfill_tasks.cli.render.text import spaced, wrapped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.replica import Server
from backfill_tasks.engine.verification import Verification
from backfill_tasks.escaping import one_line


def verification(
    backfill: Backfill, run: Run, found: Verification, *, server: Server | None = None, most: int = 20
) -> str:
    """Return the result of a verification, with up to `most` items of each kind."""
    lines = [f"Verification of run {run.id} · {run.state}", ""]
    if run.state != "complete":
        lines.append(f"  The run is not complete: only the {backfill.items} that it has passed are checked.")
    if server is not None and server.replayed is not None:
        lines += _server(server)
    lines.append(f"  {backfill.items + ' checked':<20}{found.looked_at:>11,}")
    lines.append(f"  {'without a result':<20}{len(found.missing):>11,}")
    lines += _items(found.missing, most)
    if found.hidden:
        lines.append(f"  {'hidden by an index':<20}{len(found.hidden):>11,}   another run would skip them, too")
        lines += _items(found.hidden, most)
    if found.left_alone:
        lines.append(f"  {'a run leaves alone':<20}{len(found.left_alone):>11,}   {backfill.left_alone}")
        lines += _items(found.left_alone, most)
    for name, (counted, there) in found.found.items():
        lines.append(f"  {spaced(name):<20}{counted:>11,} counted{there:>11,} in the database")
        if there < counted:
            lines.append(f"    {counted - there:,} changed or deleted since, by the host or a later run")
    lines += _without_a_result(backfill, found, most)
    lines += _road(backfill, found)
    if found.arrived:
        lines.append(f"  {'arrived since':<20}{found.arrived:>11,}   after the run passed them: the host's own")
    lines += [f"  WRONG: {one_line(each)}" for each in found.contradictions[:most]]
    lines += ["", _verdict(backfill, run, found), *_open_end(backfill, run, found), *_remedies(run, found)]
    return "\n".join(lines)


def _server(standby: Server) -> list[str]:
    """Return the standby that was read, and whether it is known to follow the primary."""
    lines = [wrapped(one_line(str(standby)), indent=22, first=f"  {'read from':<20}")]
    if not standby.related:
        unknown = "this role may not call pg_control_system(), so it may not be a standby of DATABASE_URL's server"
        lines.append(wrapped(unknown, indent=22))
    return lines


def _without_a_result(backfill: Backfill, found: Verification, most: int) -> list[str]:
    """Return the items in quarantine, those whose jobs ended without a result, and those with an invalid one."""
    lines = []
    if found.quarantined:
        lines.append(f"  {'in quarantine':<20}{found.quarantined:>11,}   failed on their own, kept with their error")
    for name, meaning in backfill.unresolved.items():
        items = found.unresolved.get(name, ())
        if items:
            lines += [f"  {spaced(name):<20}{len(items):>11,}   {meaning}", *_items(items, most)]
    if found.invalid:
        lines += [f"  {'invalid':<20}{len(found.invalid):>11,}   {backfill.invalid}", *_items(found.invalid, most)]
    return lines


def _road(backfill: Backfill, found: Verification) -> list[str]:
    """Return how many of the enqueued items have their result, wait for it, or vanished without one."""
    outcome = found.road.outcome if found.road else None
    if outcome is None or not outcome.enqueued:
        return []
    lines = [
        f"  {'enqueued':<20}{outcome.enqueued:>11,}   by this run",
        f"    {backfill.done:<18}{outcome.done:>11,}",
        f"    {'still waiting':<18}{outcome.unended:>11,}",
        f"    {f'without a {backfill.result}':<18}{outcome.without_result:>11,}",
    ]
    gone = {name: outcome.without.get(name, 0) for name in backfill.vanished}
    lines += [f"      {spaced(name):<16}{gone[name]:>11,}   {backfill.vanished[name]}" for name in gone if gone[name]]
    if outcome.taken_over:
        lines.append(f"    {'taken over':<18}{outcome.taken_over:>11,}   a later run has enqueued them again")
    return lines


def _items(items: Sequence[str], most: int) -> list[str]:
    """Return the first `most` ids, one per line, and how many more there are."""
    more = [f"    … and {len(items) - most:,} more; --json lists all"] if len(items) > most else []
    return [*(f"    {one_line(item)}" for item in items[:most]), *more]


def _verdict(backfill: Backfill, run: Run, found: Verification) -> str:
    """Return the verdict. Only a run with checked items and no open ones is clean."""
    items = backfill.items
    if found.clean:
        return f"Clean: no {items} are missing, and no count is contradicted."
    if found.wrong:
        return "NOT CLEAN."
    if not run.has_passed_any:
        return f"Nothing to verify: the run hasn't passed any {items}."
    if not found.looked_at:
        return f"NOT VERIFIED: the {items} that the run has passed are no longer visible."
    unresolved = found.quarantined + sum(map(len, found.unresolved.values())) + len(found.invalid)
    have = "has" if unresolved == 1 else "have"
    return f"NOT CLEAN: no {items} are missing, but {unresolved:,} {have} no {'valid ' * bool(found.invalid)}result."


def _open_end(backfill: Backfill, run: Run, found: Verification) -> list[str]:
    """Return what isn't known yet: the items that still wait for their result."""
    outcome = found.road.outcome if found.road else None
    if outcome is None or not outcome.unended:
        return []
    follow = step(f"backfill watch {run.id} --until-scored", "follows them") if run.state == "complete" else []
    they_have = "it has" if outcome.unended == 1 else "they have"
    return [f"{still_waiting(backfill, outcome.unended)}: verify again once {they_have} it.", *follow]


def _remedies(run: Run, found: Verification) -> list[str]:
    """Return the commands that fix what the verification found."""
    lines = []
    if found.quarantined:
        lines += retry_step(run)
    if found.hidden:
        lines.append('Next: "A damaged index" in docs/runbook.md, before any other run')
    if len(found.missing) > len(found.left_alone):
        lines += step(anew(run), "does what is missing")
    elif any(found.unresolved.values()):
        lines += step(anew(run), "enqueues the others again")
    lacking = next((item for items in (*found.unresolved.values(), found.invalid) for item in items), None)
    if lacking is not None:
        lines += step(f"backfill why {quote(one_line(lacking))}", "tells the whole story of one of them")
    if found.left_alone:
        lines.append('Next: "What a run leaves alone" in docs/runbook.md has the SQL for the rest')
    return lines
