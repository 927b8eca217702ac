"""The host's overrides of its prompt, read from its tables."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnClause, Connection, Select, column, func, select, table

from backfill_tasks.scoring.contract import PromptOverride
from backfill_tasks.scoring.prompt import KEY, Prompt

#: The tables, the workspace's first; older hosts lack them. Each has a unique index that serves these queries.
_OF_WORKSPACES, _OF_ALL = "PromptOverride", "SystemPromptOverride"


@dataclass(frozen=True)
class Unapplied:
    """An override that scoring here can't apply. `client`: its workspace; None: it is for all workspaces."""

    client: str | None
    role: str
    index: int
    why: str


def read(connection: Connection, schema: str, clients: Sequence[str]) -> Mapping[str, tuple[PromptOverride, ...]]:
    """Return the overrides that count for each of these workspaces, for `Workspace.prompt_overrides`.

    The workspace's own come first: they win over those for all. A host without the tables has none.
    """
    own = defaultdict[str, list[PromptOverride]](list)
    for client, override in _of_workspaces(connection, schema, clients):
        own[client].append(override)
    shared = _of_all(connection, schema)
    return {client: (*own[client], *shared) for client in clients}


def unapplied(connection: Connection, schema: str, prompt: Prompt) -> Iterator[Unapplied]:
    """Yield every override that this prompt can't apply, and why: such a workspace is scored by another text."""
    found: list[tuple[str | None, PromptOverride]] = [
        *_of_workspaces(connection, schema, None),
        *((None, each) for each in _of_all(connection, schema)),
    ]
    for client, override in found:
        why = prompt.why_not(override)
        if why is not None:
            yield Unapplied(client, override.role, override.index, why)


def _of_workspaces(
    connection: Connection, schema: str, clients: Sequence[str] | None
) -> Iterator[tuple[str, PromptOverride]]:
    """Yield the overrides of these workspaces, or of all workspaces."""
    if _exists(connection, schema, _OF_WORKSPACES):
        client: ColumnClause[str] = column("clientId")
        query = _query(schema, _OF_WORKSPACES).add_columns(client)
        if clients is not None:
            query = query.where(client.in_(clients))
        for role, index, base_hash, content, name in connection.execute(query.order_by(client)):
            yield name, PromptOverride(role, index, base_hash, content)


def _of_all(connection: Connection, schema: str) -> list[PromptOverride]:
    """Return the overrides for all workspaces."""
    if not _exists(connection, schema, _OF_ALL):
        return []
    rows = connection.execute(_query(schema, _OF_ALL))
    return [PromptOverride(role, index, base_hash, content) for role, index, base_hash, content in rows]


def _exists(connection: Connection, schema: str, name: str) -> bool:
    quoted = ".".join('"' + each.replace('"', '""') + '"' for each in (schema, name))
    return connection.execute(select(func.to_regclass(quoted))).scalar() is not None


def _query(schema: str, name: str) -> "Select[str, int, str, str]":
    role: ColumnClause[str] = column("role")
    index: ColumnClause[int] = column("index")
    base_hash: ColumnClause[str] = column("baseContentHash")
    content: ColumnClause[str] = column("content")
    source = table(name, schema=schema)
    return select(role, index, base_hash, content).select_from(source).where(column("promptKey") == KEY)
