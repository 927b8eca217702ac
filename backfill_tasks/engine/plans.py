"""How PostgreSQL would carry out what a page sends: asked, and never carried out."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event, text

Node = Mapping[str, Any]

#: A table of fewer rows is read in a moment, whole as it is.
LARGE = 10_000

#: A node's conditions, which name what an index could have been asked for.
_JOIN_CONDITIONS = ("Join Filter", "Hash Cond", "Merge Cond")

#: A table that was never analyzed: at least so many bytes go to a row.
_ROW_BYTES = 100

_SIZE = """
SELECT CASE WHEN reltuples < 0 THEN pg_relation_size(oid) / :row_bytes ELSE reltuples END AS rows
FROM pg_class WHERE oid = to_regclass(:table)
"""


@dataclass(frozen=True)
class WholeScan:
    """A large table that would be read from end to end, or whose index would be.

    Attributes:
        table: its name, quoted, with its schema.
        rows: about how many it has.
        often: once for each row of something else, and not once a page.
        index: the statement that makes the index that would avoid it; None: it has no condition that one could serve.
    """

    table: str
    rows: int
    often: bool
    index: str | None


class _Sent(Exception):  # noqa: N818  not an error: the statement is known, and goes no further
    def __init__(self, statement: str, parameters: Any) -> None:
        super().__init__(statement)
        self.statement = statement
        self.parameters = parameters


@dataclass(frozen=True)
class Sent:
    """A statement as it would go to the server."""

    statement: str
    parameters: Any

    @property
    def conflict(self) -> str | None:
        """The unique index that its INSERT … ON CONFLICT goes by, as the statement that makes it."""
        found = re.search(r"INSERT INTO\s+(\S+)\s*\(.*?ON CONFLICT\s*(\([^)]+\))", self.statement, re.DOTALL)
        return f"CREATE UNIQUE INDEX CONCURRENTLY ON {found[1]} {found[2]}" if found else None


def sent(connection: Connection, ask: Callable[[], object]) -> Sent | None:
    """The first statement that `ask` would send on this connection, which is not sent; None if it sends none."""

    def stop(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        raise _Sent(statement, parameters)

    event.listen(connection, "before_cursor_execute", stop)
    try:
        ask()
    except _Sent as stopped:
        return Sent(stopped.statement, stopped.parameters)
    finally:
        event.remove(connection, "before_cursor_execute", stop)
    return None


def whole_scans(connection: Connection, statement: Sent) -> list[WholeScan]:
    """The large tables that a statement would read whole, under the settings of this transaction. It is not run."""
    answer = connection.exec_driver_sql(
        f"EXPLAIN (VERBOSE, FORMAT JSON) {statement.statement}", statement.parameters
    ).scalar_one()
    (content,) = json.loads(answer) if isinstance(answer, str) else answer
    found = []
    for node, often, conditions in _scans(content["Plan"]):
        table = f"{_quoted(node['Schema'])}.{_quoted(node['Relation Name'])}"
        rows = connection.execute(text(_SIZE), {"table": table, "row_bytes": _ROW_BYTES}).scalar_one()
        if rows > LARGE:
            columns = _columns(node["Alias"], conditions)
            index = f"CREATE INDEX CONCURRENTLY ON {table} ({', '.join(columns)})" if columns else None
            found.append(WholeScan(table, int(rows), often, index))
    return found


def _scans(node: Node, *, often: bool = False, joined: tuple[str, ...] = ()) -> Iterator[tuple[Node, bool, list[str]]]:
    """Every scan without a condition on an index: whether it is repeated, and the conditions on what it reads."""
    kind = str(node["Node Type"])
    if kind.endswith("Scan") and "Relation Name" in node and kind != "Bitmap Heap Scan" and "Index Cond" not in node:
        own = [node["Filter"]] if "Filter" in node else []
        yield node, often, [*own, *joined]
    below = (*joined, *(node[name] for name in _JOIN_CONDITIONS if name in node))
    for child in node.get("Plans", ()):
        place = child.get("Parent Relationship")
        repeated = place == "SubPlan" or (kind == "Nested Loop" and place == "Inner")
        yield from _scans(child, often=place != "InitPlan" and (often or repeated), joined=below)


def _columns(alias: str, conditions: list[str]) -> list[str]:
    """The columns that are compared with another table's; without any, those compared with values, ranges last."""
    name = rf"{re.escape(_quoted_if_needed(alias))}\.(\"(?:[^\"]|\"\")+\"|\w+)"
    of_others, equal, ranges = [], [], []
    for condition in conditions:
        for column, operator, other in re.findall(rf"{name}\)?(?:::[\w\"\[\]]+)? (=|<=|>=|<|>) (\S+)", condition):
            if operator != "=":
                ranges.append(column)
            elif re.match(r"\(*[\w\"]+\.[\w\"]", other):
                of_others.append(column)
            else:
                equal.append(column)
        of_others += re.findall(rf"[\w\")] = \(*{name}", condition)
    return list(dict.fromkeys(of_others or [*equal, *ranges]))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_if_needed(name: str) -> str:
    """An alias as EXPLAIN writes it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else _quoted(name)
