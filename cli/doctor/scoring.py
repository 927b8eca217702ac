"""Checks what scoring here, instead of in the host, depends on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.cli.render.text import counted, duration
from backfill_tasks.engine import schema
from backfill_tasks.engine.database import begin_read_only, is_permanent, reason
from backfill_tasks.escaping import one_line
from backfill_tasks.scoring import prices, prompt, prompt_overrides, scorers
from backfill_tasks.scoring.contract import Usage
from backfill_tasks.scoring.jobs import KEY_PREFIX
from backfill_tasks.scoring.overview import overview
from backfill_tasks.scoring.prompt_overrides import Unapplied
from backfill_tasks.scoring.statements import file

if TYPE_CHECKING:
    from sqlalchemy import Row

#: The most overrides, and the most workspaces, that are named.
_MOST = 20

#: How many of our waiting jobs are looked at.
_POOL = 20_000


def scorer(context: CommandContext) -> Iterator[Finding]:
    """Check what the scorer of the newest session needs; without a session, a scorer whose key is set here."""
    found = _prospects(context)
    name = found.scorer if found else None
    if name is None:
        name = "openai" if context.settings.openai_api_key else None
    if name is None:
        return
    used = scorers.installed()[name]  # an error says what is missing: the extra, the key, or a readable prompt
    prompt.load(context.settings.prompt_file)
    prices.cost(used.model, Usage())
    yield Finding("fine", f"the scorer {name} can be used here" + (f", with {used.model}" if used.model else ""))


def waiting(context: CommandContext) -> Iterator[Finding]:
    """Report scoring that waits for a worker, and workspaces that a scorer knows nothing about."""
    from backfill_tasks.worker.fleet import is_any_scoring  # noqa: PLC0415  Celery takes half a second to import

    found = _prospects(context)
    if found is None or not (found.reserves or found.scorer):
        return
    if found.is_running and not is_any_scoring():
        start = f"Start one: backfill worker -Q {context.settings.scoring_queue}"
        yield Finding("WRONG", "scoring is running, and no worker takes its batches", start)
    if found.without_profile:
        listed = ", ".join(one_line(each, most=100) for each in found.without_profile[:_MOST])
        more = ", …" if len(found.without_profile) > _MOST else ""
        number = len(found.without_profile)
        have = "has" if number == 1 else "have"
        yield Finding(
            "look",
            f"{counted(number, 'workspaces')} {have} no ideal customer profile, so the fit of their leads can't"
            f" be judged: {listed}{more}",
            "The same holds for the host's own scores. The host's WorkspaceSettings have it.",
        )


def _prospects(context: CommandContext) -> "Row[Any] | None":
    """Return what there is to score here; None: there is no ledger of this version."""
    with context.parts.engine.begin() as connection:
        begin_read_only(connection, statement_ms=context.settings.statement_timeout_ms)
        if schema.version(connection) != schema.latest():
            return None
        values = {"key_prefix": KEY_PREFIX, "pool": _POOL}
        return connection.execute(file("prospects", context.parts.address.schema), values).one()


def prompts(context: CommandContext) -> Iterator[Finding]:
    """Report the host's prompt overrides that a scorer here can't apply, with their workspaces."""
    known = prompt.load(context.settings.prompt_file)
    try:
        with context.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=context.settings.statement_timeout_ms)
            found = list(prompt_overrides.unapplied(connection, context.parts.address.schema, known))
    except DBAPIError as error:
        if not is_permanent(error):
            raise
        advice = 'To score here with the host\'s prompts: GRANT SELECT ON "PromptOverride", "SystemPromptOverride"'
        yield Finding("look", f"the host's prompt overrides can't be read: {reason(error)}", advice)
        return
    if found:
        named = "; ".join(_named(each) for each in found[:_MOST]) + ("; …" if len(found) > _MOST else "")
        yield Finding(
            "look",
            f"scoring here would not apply {len(found)} of the host's prompt overrides: {named}",
            "The host's own runner applies them. To do so here, copy the host's prompt into BACKFILL_PROMPT_FILE:"
            " docs/scorers.md says how.",
        )


def workers(context: CommandContext) -> Iterator[Finding]:
    """Report jobs that runs have reserved for scoring here while nothing scores here."""
    with context.parts.engine.begin() as connection:
        begin_read_only(connection, statement_ms=context.settings.statement_timeout_ms)
        if schema.version(connection) != schema.latest():
            return
        found = overview(connection, context.parts.address.schema)
    if not found.reserved or found.alive:
        return
    due = duration(found.first_due_seconds or 0)
    queue = context.settings.scoring_queue
    are = "is" if found.reserved == 1 else "are"
    wait, them = ("It waits. It comes", "it") if found.reserved == 1 else ("They wait. The first come", "them")
    yield Finding(
        "look",
        f"{counted(found.reserved, 'jobs')} {are} reserved for scoring here, and nothing scores here",
        f"{wait} due for the host's runner in {due}. To score {them} here, start `backfill worker -Q"
        f" {queue}`, then `backfill work`",
    )


def _named(override: Unapplied) -> str:
    whose = "all workspaces" if override.client is None else f"workspace {one_line(override.client, most=100)}"
    return f"{whose}, {one_line(override.role, most=20)} {override.index} ({override.why})"
