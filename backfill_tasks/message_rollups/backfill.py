"""The host's roll-ups of Message in Lead, as a backfill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection, Row

from backfill_tasks.engine.backfill import PageClaim, PageContext, Raced, Stretch
from backfill_tasks.engine.model import Options, PageResult, Window
from backfill_tasks.host.leads import Leads, naive, window_values


@dataclass(frozen=True)
class MessageRollups(Leads):
    """Brings lastInboundAt, lastOutboundAt, lastMessageAt and lastMessageDirection of every lead up to its messages."""

    name: ClassVar[str] = "message-rollups"
    classes: ClassVar[Mapping[str, str]] = {"updated": "roll-ups set"}
    passed_over: ClassVar[Mapping[str, str]] = {"up_to_date": "as new as their messages", "no_message": "no message"}
    option_names: ClassVar[Sequence[str]] = ("client_ids",)
    rights: ClassVar[Mapping[str, str]] = {"Client": "SELECT", "Message": "SELECT", "Lead": "SELECT, UPDATE"}

    def split(
        self, connection: Connection, options: Options, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """Lanes of equally many leads, counted in one pass over the ids."""
        values = {"after": after, "lanes": lanes, "smallest": smallest, **options}
        return list(connection.execute(self.file("message_rollups/split.sql", "host/lanes.sql"), values).scalars())

    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Set the roll-ups of one page in one statement."""
        row = self._ask("page.sql", connection, window, context)
        if row.updated != row.read:
            raise Raced
        return PageResult(row.cursor, {"read": row.read, "updated": row.updated})

    def survey(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count one page through the same selection."""
        row = self._ask("survey.sql", connection, window, context)
        return PageResult(row.cursor, {name: getattr(row, name) for name in ("read", *self.classes, *self.passed_over)})

    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Look for leads that lag; those that do so only by messages which came after the run's start have arrived."""
        now = self._ask("lagging.sql", connection, window, context)
        then = self._ask("lagging.sql", connection, window, context, until=naive(context.started_at))
        missing = [lead for lead in now.leads if lead in set(then.leads)]
        return Stretch(now.cursor, missing, len(now.leads) - len(missing))

    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:  # noqa: ARG002  nothing to look for
        """No class leaves a trace: a roll-up does not tell who has written it."""
        return {}

    def numbers(self, options: Options) -> bool:  # noqa: ARG002  whatever the options are
        """Nothing of it has a number."""
        return False

    def _ask(
        self, file: str, connection: Connection, window: Window, context: PageContext, until: datetime | None = None
    ) -> Row[Any]:
        """What a statement on the leads of a window answers; of their messages, only those that were there `until`."""
        statement = self.file("message_rollups/selection.sql", "host/page_end.sql", f"message_rollups/{file}")
        return connection.execute(statement, {**window_values(window), **context.options, "until": until}).one()
