"""The common base of all backfills of the host's leads."""

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from sqlalchemy import Connection, TextClause

from backfill_tasks.backfills.host import rights, sql
from backfill_tasks.engine.contract import Backfill, Host, Missing
from backfill_tasks.engine.model import Bounds, Window
from backfill_tasks.errors import UsageError
from backfill_tasks.kinds import Texts
from backfill_tasks.options import Option, Values

#: The maximum number of workspaces named in a message.
_MOST_NAMED = 3

#: The option of every backfill of leads.
CLIENT_IDS = Option("client_ids", Texts(), "Only this workspace; repeatable.", flag="--client-id")


@dataclass(frozen=True)
class Leads(Backfill, ABC):
    """A backfill whose items are the host's leads. `schema` is the schema of the host's tables.

    CLIENT_IDS must be one of its options: a list of workspaces, or None for all.
    """

    items = "leads"
    #: The rights that it needs on the host's tables, as GRANT lists them.
    rights: ClassVar[Mapping[str, str]]

    schema: str = "public"

    def on(self, host: Host) -> Self:
        """Return this backfill with the schema of the host's tables."""
        return replace(self, schema=host.schema)

    def missing(self, connection: Connection, *, apply: bool) -> list[Missing]:
        """Return the missing tables and the missing rights."""
        needed = {table: every if apply else "SELECT" for table, every in self.rights.items()}
        found = [rights.missing(connection, self.schema, table, each) for table, each in needed.items()]
        return [each for each in found if each is not None]

    def check(self, connection: Connection, options: Values, *, apply: bool) -> None:
        """Reject missing tables, missing rights and unknown workspaces."""
        self.check_host(connection, apply=apply)
        wanted = options["client_ids"]
        if wanted is None:
            return
        found = connection.execute(
            sql.statement('SELECT id FROM {host}."Client" WHERE id = ANY (:ids)', self.schema), {"ids": list(wanted)}
        )
        unknown = sorted(set(wanted) - set(found.scalars()))
        if unknown:
            names = ", ".join(repr(each) for each in unknown)
            raise UsageError(f"there is no workspace {names}: --client-id takes ids of the table Client")

    def overlap(self, options: Values, others: Values) -> str | None:
        """Return the workspaces that are in both, in words, or None."""
        chosen = [set(each["client_ids"]) for each in (options, others) if each["client_ids"] is not None]
        if not chosen:
            return "all workspaces"
        shared = sorted(set.intersection(*chosen))
        if not shared:
            return None
        more = f" and {len(shared) - _MOST_NAMED} more" if len(shared) > _MOST_NAMED else ""
        return f"workspace{'s' * (len(shared) > 1)} {', '.join(shared[:_MOST_NAMED])}{more}"

    def previous_key(self, connection: Connection, item: str) -> str | None:
        """Look up the previous id by the primary key, whether the item itself still exists or not."""
        query = sql.statement('SELECT max(id) FROM {host}."Lead" WHERE id < :item', self.schema)
        found: str | None = connection.execute(query, {"item": item}).scalar_one()
        return found

    def last_key(self, connection: Connection) -> str | None:
        """Look up the greatest id by the primary key."""
        found: str | None = connection.execute(sql.statement('SELECT max(id) FROM {host}."Lead"', self.schema)).scalar()
        return found

    def reached(self, connection: Connection, item: str, keys: Sequence[str]) -> Sequence[bool]:
        """Compare ids in the order of the primary key."""
        values = {"item": item, "keys": list(keys)}
        return connection.execute(self.file("host/reached.sql"), values).scalars().all()

    def file(self, path: str, **parts: str) -> TextClause:
        """Return the statement of an SQL file; see `sql.file`."""
        return sql.file(self.schema, path, **parts)


def window_values(window: Window) -> dict[str, Any]:
    """Return a window as statement parameters."""
    return {
        "lower": window.bounds.lower,
        "upper": window.bounds.upper,
        "limit": window.limit,
        "rows": window.rows,
    }


def stretch_values(stretches: Sequence[Bounds]) -> dict[str, Any]:
    """Return several stretches as the parameters of statements that read whole tables."""
    return {"lowers": [each.lower for each in stretches], "uppers": [each.upper for each in stretches]}


def naive(moment: datetime) -> datetime:
    """Convert a time to the form of the host's TIMESTAMP(3) columns: UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
