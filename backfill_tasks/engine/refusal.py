"""What may be reported of a database error: everything except the values of rows.

PostgreSQL repeats values in messages ("invalid input syntax for type integer: …") and in details ("Key (email)=(…)
already exists"), and the host's own functions write arbitrary texts. A value may be an e-mail address, and a reason is
stored in the ledger and shown in logs, Flower and reports. So only the kind of error and the names of schema objects
are reported, and the server's own words only if they can't repeat a value.

Weakness: the names of constraints, tables, columns and functions are assumed to be harmless.
"""

import re
from dataclasses import dataclass

#: Constraint violations: their messages repeat no value, their details do.
_INTEGRITY_CLASS = "23"

#: Damaged rows and indexes: the messages name blocks and files.
_DAMAGE = frozenset({"XX001", "XX002"})

#: The prefix of procedural languages' source files: pl_exec.c, plperl.c, plpy_elog.c, pltcl.c.
_LANGUAGES = "pl"
_PLPGSQL = "pl_exec.c"

#: A function's signature, as in the first line of PL/pgSQL's context, in any message language.
_SIGNATURE = re.compile(r'[\w."$]+\([^()]*\)')


@dataclass(frozen=True)
class Refusal:
    """An error without values of rows. `function`: the host's function that raised it."""

    name: str
    sqlstate: str | None = None
    constraint: str | None = None
    table: str | None = None
    column: str | None = None
    function: str | None = None

    @property
    def summary(self) -> str:
        """One line: the kind of error, its place, and the SQLSTATE."""
        names = {"constraint": self.constraint, "table": self.table, "column": self.column}
        place = ", ".join(f'{what} "{name}"' for what, name in names.items() if name)
        return f"{self.name}{f': {place}' if place else ''}{f' ({self.sqlstate})' if self.sqlstate else ''}"


def refusal(error: BaseException | None) -> Refusal:
    """Return the part of a driver's error that may be kept."""
    function = _function(error)
    if function:
        name = f"the host's function {function} raised an error"
    elif _is_the_hosts(error):
        name = "the host's own code raised an error"
    else:
        # psycopg's classes have the names from PostgreSQL's Appendix A: CheckViolation, NumericValueOutOfRange.
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
    """Return whether the server's own words may be reported. `of_an_item`: an item of the page causes the error."""
    if _is_the_hosts(error):
        return False
    code = getattr(error, "sqlstate", None) or ""
    return (
        not of_an_item
        or code in _DAMAGE
        or (code[:2] == _INTEGRITY_CLASS and bool(_told(error, "table_name") or _told(error, "constraint_name")))
    )


def own_words(error: BaseException | None) -> str:
    """Return the server's message and detail on one line. They may repeat values: only for an operator who asks."""
    said = [_told(error, "message_primary") or str(error), _told(error, "message_detail") or ""]
    return " · ".join(" ".join(each.split()) for each in said if each.strip()) or "no message"


def _is_the_hosts(error: BaseException | None) -> bool:
    """Return whether a function of the host wrote the message, or the statement that failed."""
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
