"""Checks what scoring here, instead of in the host, depends on."""

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.cli.render.text import duration
from backfill_tasks.engine import schema
from backfill_tasks.engine.database import begin_read_only, is_permanent, reason
from backfill_tasks.escaping import one_line
from backfill_tasks.scoring import prompt, prompt_overrides
from backfill_tasks.scoring.overview import overview
from backfill_tasks.scoring.prompt_overrides import Unapplied

#: The most overrides that are named.
_MOST = 20


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
    yield Finding(
        "look",
        f"{found.reserved:,} jobs are reserved for scoring here, and nothing scores here",
        f"They wait. The first come due for the host's runner in {due}. To score them here, start `backfill worker -Q"
        f" {queue}`, then `backfill work`",
    )


def _named(override: Unapplied) -> str:
    whose = "all workspaces" if override.client is None else f"workspace {one_line(override.client, most=100)}"
    return f"{whose}, {one_line(override.role, most=20)} {override.index} ({override.why})"
