"""Keys: the columns by which a table is walked, as text in Python, the ledger and SQL.

A key of one column is the column's text; a key of several is a JSON array of the columns' texts: `["acme", "120"]`.
Python never compares keys. In SQL, a key's text is a parameter without a type, so PostgreSQL gives it the type and the
collation of the column that it is compared with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backfill_tasks.backfills.host import sql
from backfill_tasks.errors import UsageError


def escaped(text: str) -> str:
    """Return SQL in which no colon begins a parameter."""
    return text.replace(":", "\\:")


def identifier(name: str) -> str:
    """Return a name, quoted for a statement."""
    return escaped(sql.quoted(name))


@dataclass(frozen=True)
class Key:
    """The columns of a table's key, in the key's order. `row`: the table's alias in a statement, quoted."""

    columns: tuple[str, ...]
    row: str

    def encode(self, parts: Sequence[str]) -> str:
        """Return the text of a key whose columns have these texts."""
        return parts[0] if len(self.columns) == 1 else json.dumps(list(parts), ensure_ascii=False)

    def decode(self, text: str) -> list[str]:
        """Return the texts of a key's columns.

        Raises:
            UsageError: it isn't the text of a key with this number of columns.
        """
        if len(self.columns) == 1:
            return [text]
        try:
            parts = json.loads(text)
        except ValueError:
            parts = None
        if (
            not isinstance(parts, list)
            or len(parts) != len(self.columns)
            or not all(type(each) in (str, int) for each in parts)
        ):
            shape = json.dumps([f"<{each}>" for each in self.columns], ensure_ascii=False)
            raise UsageError(f"{text!r} is not a key of {', '.join(self.columns)}: write it as JSON, {shape}")
        return [str(each) for each in parts]

    def values(self, name: str, text: str) -> dict[str, str]:
        """Return a key as parameters: `name_1`, `name_2` and so on."""
        return {f"{name}_{number}": part for number, part in enumerate(self.decode(text), start=1)}

    @property
    def fragments(self) -> Mapping[str, str]:
        """The parts of statements that name the key, by their names in the SQL files."""
        own = [f"{self.row}.{identifier(each)}" for each in self.columns]
        aliases = self._numbered("key")
        ends = [
            f"coalesce((SELECT {key} FROM page_end), {upper})"  # noqa: S608  our own names
            for key, upper in zip(aliases, self._numbered(":upper"), strict=True)
        ]
        return {
            "columns": ", ".join(own),
            "columns_descending": ", ".join(f"{each} DESC" for each in own),
            "columns_as_keys": ", ".join(f"{each} AS {alias}" for each, alias in zip(own, aliases, strict=True)),
            "columns_as_text": f"ARRAY[{', '.join(f'CAST({each} AS text)' for each in own)}]",
            "keys": ", ".join(aliases),
            "keys_descending": ", ".join(f"{each} DESC" for each in aliases),
            "keys_as_text": f"ARRAY[{', '.join(f'CAST({each} AS text)' for each in aliases)}]",
            "row_is_picked": " AND ".join(f"{each} = picked.{alias}" for each, alias in zip(own, aliases, strict=True)),
            "up_to_page_end": self._compared("<=", ends),
        }

    def window(self, *, lower: bool, upper: bool = True, suffix: str = "") -> str:
        """Return the condition that a row is in a stretch with the bounds `lower_1`, `upper_1` and so on."""
        bounds = [("lower", ">")] * lower + [("upper", "<=")] * upper
        found = [self._compared(operator, self._numbered(f":{name}{suffix}")) for name, operator in bounds]
        return " AND ".join(found) or "true"

    def before(self) -> str:
        """Return the condition that a row comes before the parameters `item_1` and so on."""
        return self._compared("<", self._numbered(":item"))

    def _compared(self, operator: str, values: Sequence[str]) -> str:
        """Return a comparison of keys: of values for one column, else of rows, which a multicolumn index can serve."""
        own = [f"{self.row}.{identifier(each)}" for each in self.columns]
        if len(own) == 1:
            return f"{own[0]} {operator} {values[0]}"
        return f"({', '.join(own)}) {operator} ({', '.join(values)})"

    def _numbered(self, name: str) -> list[str]:
        return [f"{name}_{number}" for number in range(1, len(self.columns) + 1)]
