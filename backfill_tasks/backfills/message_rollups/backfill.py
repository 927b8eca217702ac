"""The host's roll-ups of Message into Lead, as a backfill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from sqlalchemy import Connection, Row

from backfill_tasks.backfills.host import rights, sql
from backfill_tasks.backfills.host.leads import CLIENT_IDS, Leads, naive, stretch_values, window_values
from backfill_tasks.engine.contract import Missing, PageClaim, PageContext, RowChanged, Stretch
from backfill_tasks.engine.model import Bounds, PageResult, Window
from backfill_tasks.options import Values

#: The table in which the newest hosts mark workspaces whose inbox counts are stale.
_COUNTS = "InboxCountsDirty"


@dataclass(frozen=True)
class MessageRollups(Leads):
    """Recomputes the five roll-ups of every lead from its messages, all at once: the inbox compares them."""

    name = "message-rollups"
    summary = (
        "recompute each lead's lastInboundAt, lastOutboundAt, lastZrgOutboundAt, lastMessageAt and lastMessageDirection"
        " from its messages"
    )
    classes = MappingProxyType({"updated": "roll-ups set"})
    passed_over = MappingProxyType({"up_to_date": "agree with their messages", "no_message": "no message"})
    options = (CLIENT_IDS,)
    left_alone = "newer than their messages, or without any"
    rights: ClassVar[Mapping[str, str]] = {"Client": "SELECT", "Message": "SELECT", "Lead": "SELECT, UPDATE"}

    def missing(self, connection: Connection, *, apply: bool) -> list[Missing]:
        """Return missing tables and rights, including those on the newest hosts' table of stale counts."""
        found = super().missing(connection, apply=apply)
        if apply and not found and self._marks_counts(connection):
            lack = rights.missing(connection, self.schema, _COUNTS, "SELECT, INSERT, UPDATE")
            return [] if lack is None else [lack]
        return found

    def split(
        self, connection: Connection, options: Values, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """Return the bounds of lanes with equal numbers of leads, counted in one pass over the ids."""
        values = {"after": after, "lanes": lanes, "smallest": smallest, **options}
        return list(
            connection.execute(self.file("host/lanes.sql", leads="message_rollups/split.sql"), values).scalars()
        )

    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Set the roll-ups of one page in one statement."""
        row = self._ask("page.sql", connection, window, context)
        if row.updated != row.read:
            raise RowChanged
        if row.clients and self._marks_counts(connection):
            connection.execute(self.file("message_rollups/mark_dirty.sql"), {"clients": row.clients})
        return PageResult(row.cursor, {"read": row.read, "updated": row.updated})

    def dry_run(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count one page through the same selection."""
        row = self._ask("dry_run.sql", connection, window, context)
        return PageResult(row.cursor, {name: getattr(row, name) for name in ("read", *self.classes, *self.passed_over)})

    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Find leads whose roll-ups differ from their messages, including newer ones, which a page leaves alone."""
        return self._verify("verify.sql", connection, context, window_values(window))

    def verify_full(self, connection: Connection, stretches: Sequence[Bounds], context: PageContext) -> Stretch:
        """Find the same by hash joins of whole tables."""
        return self._verify("verify_full.sql", connection, context, stretch_values(stretches))

    def _verify(self, file: str, connection: Connection, context: PageContext, bounds: Mapping[str, Any]) -> Stretch:
        values = {**bounds, **context.options, "started_at": naive(context.started_at)}
        row = connection.execute(
            self.file("message_rollups/verdict.sql", leads=f"message_rollups/{file}"), values
        ).one()
        return Stretch(row.cursor, row.missing, row.arrived, row.looked_at, left_alone=row.ahead)

    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:  # noqa: ARG002  there is nothing to count
        """Return no counts: a roll-up doesn't tell who wrote it."""
        return {}

    def needs_ordinals(self, options: Values) -> bool:  # noqa: ARG002  independent of the options
        """Return False: pages number nothing."""
        return False

    def _marks_counts(self, connection: Connection) -> bool:
        """Return whether this host has the table of stale inbox counts."""
        table = sql.statement(f"""SELECT to_regclass('{{host}}."{_COUNTS}"') IS NOT NULL""", self.schema)
        return bool(connection.execute(table).scalar_one())

    def _ask(self, file: str, connection: Connection, window: Window, context: PageContext) -> Row[Any]:
        """Run a statement on the lagging leads of a window and return its row."""
        statement = self.file(f"message_rollups/{file}")
        return connection.execute(statement, {**window_values(window), **context.options}).one()
