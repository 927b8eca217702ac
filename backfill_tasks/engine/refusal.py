"""What may be told of a database error: everything but the values of rows.

PostgreSQL repeats values in messages ("invalid input syntax for type integer: …") and in details ("Key (email)=(…)
already exists"), and the host's own functions write what they like. A value may be an e-mail address, and a reason goes
to the ledger, the logs, Flower and reports. So only the kind of error and the names of schema objects are told. The
server's own words are told where they can't repeat a value.

Weakness: names of constraints, tables, columns and functions are taken for harmless.
"""

import re
from dataclasses import dataclass

#: Constraints: the messages of these name no value, their details do.
_INTEGRITY_CLASS = "23"

#: Damaged rows and indexes: the messages name blocks and files.
_DAMAGE = frozenset({"XX001", "XX002"})

#: Procedural languages' sources begin so: pl_exec.c, plperl.c, plpy_elog.c, pltcl.c.
_LANGUAGES = "pl"
_PLPGSQL = "pl_exec.c"

#: A function's signature, as the first line of PL/pgSQL's context has it, in whatever language that is.
_SIGNATURE = re.compile(r'[\w."$]+\([^()]*\)')


@dataclass(frozen=True)
class Refusal:
    """An error without the values of rows. `function`: of the host's, which raised it."""

    name: str
    sqlstate: str | None = None
    constraint: str | None = None
    table: str | None = None
    column: str | None = None
    function: str | None = None

    @property
    def summary(self) -> str:
        """One line: the kind of error, its place, the SQLSTATE."""
        names = {"constraint": self.constraint, "table": self.table, "column": self.column}
        place = ", ".join(f'{what} "{name}"' for what, name in names.items() if name)
        return f"{self.name}{f': {place}' if place else ''}{f' ({self.sqlstate})' if self.sqlstate else ''}"


def refusal(error: BaseException | None) -> Refusal:
    """Return what may be kept of a driver's error."""
    function = _function(error)
    if function:
        name = f"the host's function {function} raised an error"
    elif _is_the_hosts(error):
        name = "the host's own code raised an error"
    else:
        # psycopg's classes have the names of PostgreSQL's appendix A: CheckViolation, NumericValueOutOfRange.
        name = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
    return Refusal(
        name=name,
        sqlstate=getattr(error, "sqlstate", None),
        constraint=_told(error, "constraint_name"),
        table=_told(error, "table_name"),
        column=_told(error, "column_name"),
        function=function,
    )


def repeats_no_value(error: BaseException | None, *, of_an_item: bool) -> bool:
    """Whether the server's own words can be told. `of_an_item`: an item of the page causes the error."""
    if _is_the_hosts(error):
        return False
    code = getattr(error, "sqlstate", None) or ""
    return (
        not of_an_item
        or code in _DAMAGE
        or (code[:2] == _INTEGRITY_CLASS and bool(_told(error, "table_name") or _told(error, "constraint_name")))
    )


def own_words(error: BaseException | None) -> str:
    """Return the server's message and its detail on one line. They may repeat values: only for an operator who asks."""
    said = [_told(error, "message_primary") or str(error), _told(error, "message_detail") or ""]
    return " · ".join(" ".join(each.split()) for each in said if each.strip()) or "no message"


def _is_the_hosts(error: BaseException | None) -> bool:
    """Whether a function of the host's wrote the message, or the statement that it complains of."""
    return (_told(error, "source_file") or "").startswith(_LANGUAGES) or _told(error, "internal_query") is not None


def _function(error: BaseException | None) -> str | None:
    if _told(error, "source_file") != _PLPGSQL:
        return None
    first, *_ = (_told(error, "context") or "").splitlines() or [""]
    found = _SIGNATURE.search(first)
    return found[0] if found else None


def _told(error: BaseException | None, name: str) -> str | None:
    found: str | None = getattr(getattr(error, "diag", None), name, None)
    return found
