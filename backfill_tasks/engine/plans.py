"""PostgreSQL's plans for a page's statements, obtained without running the statements."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event, text

Node = Mapping[str, Any]

#: A table with no more rows than this is scanned in a moment, so a full scan doesn't matter.
LARGE = 10_000

#: The join conditions of a node; they name columns that an index could serve.
_JOIN_CONDITIONS = ("Join Filter", "Hash Cond", "Merge Cond")

#: The fewest bytes per row, for estimating the rows of a table that was never analyzed.
_ROW_BYTES = 100

_SIZE = """
SELECT CASE WHEN reltuples < 0 THEN pg_relation_size(oid) / :row_bytes ELSE reltuples END AS rows
FROM pg_class WHERE oid = to_regclass(:table)
"""


@dataclass(frozen=True)
class WholeScan:
    """A large table, or an index of it, that would be read from end to end.

    Attributes:
        table: its quoted name with schema.
        rows: its approximate number of rows.
        often: whether it is read once for each row of another node, not once per page.
        index: the statement that creates an index to avoid the scan; None: no condition could use one.
    """

    table: str
    rows: int
    often: bool
    index: str | None


class _Sent(Exception):  # noqa: N818  not an error: the statement is captured and not sent
    def __init__(self, statement: str, parameters: Any) -> None:
        super().__init__(statement)
        self.statement = statement
        self.parameters = parameters


@dataclass(frozen=True)
class Sent:
    """A statement as it would be sent to the server."""

    statement: str
    parameters: Any

    @property
    def conflict(self) -> str | None:
        """The CREATE statement of the unique index that its INSERT … ON CONFLICT needs; None without ON CONFLICT."""
        found = re.search(r"INSERT INTO\s+(\S+)\s*\(.*?ON CONFLICT\s*(\([^)]+\))", self.statement, re.DOTALL)
        return f"CREATE UNIQUE INDEX CONCURRENTLY ON {found[1]} {found[2]}" if found else None


def sent(connection: Connection, ask: Callable[[], object]) -> Sent | None:
    """Return the first statement that `ask` would send on this connection, unsent; None if it sends none."""

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
    """Return the large tables that a statement would read whole, under this transaction's settings. Doesn't run it."""
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
    """Yield every scan without an index condition: its node, whether it is repeated, and its table's conditions."""
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
    """Return the columns compared with another table's; if there are none, those compared with values, ranges last."""
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
    """Return an alias as EXPLAIN writes it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else _quoted(name)
