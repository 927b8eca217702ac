"""Text between Python and a database of any encoding: every byte the host may have stored survives the round trip.

A SQL_ASCII database has no encoding: the server stores bytes without conversion, and a session whose client encoding is
SQL_ASCII, too, sends and receives any byte. Here they are read as UTF-8, and a byte that isn't UTF-8 becomes a lone
surrogate (PEP 383). Any other database converts to and from UTF-8, and refuses characters it lacks.
"""

import codecs
import json
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.types.json import JsonbLoader, JsonLoader

_TEXT_TYPES = ("text", "varchar", "bpchar", "name", '"char"')

#: The type of values for which PostgreSQL has no name, such as a host's enumeration.
_UNNAMED = 0

#: Python's names for encodings whose PostgreSQL names it doesn't know.
_PYTHON_NAMES = {"EUC_CN": "euccn", "KOI8R": "koi8_r", "KOI8U": "koi8_u"}

_BYTE_BY_BYTE = "surrogateescape"


def client_encoding(server_encoding: str) -> str:
    """Return the client encoding for a database of this encoding."""
    return "SQL_ASCII" if server_encoding == "SQL_ASCII" else "UTF8"


def adapt(connection: "psycopg.Connection[Any]", server_encoding: str) -> None:
    """Configure a connection to send and read text that a database of this encoding can store."""
    if server_encoding == "SQL_ASCII":
        connection.adapters.register_dumper(str, _ByteDumper)
        for name in (*_TEXT_TYPES, _UNNAMED):
            connection.adapters.register_loader(name, _ByteLoader)
        connection.adapters.register_loader("json", _JsonByteLoader)
        connection.adapters.register_loader("jsonb", _JsonbByteLoader)
    elif server_encoding != "UTF8" and (codec := _codec(server_encoding)):
        dumper = type("_SubstitutingDumper", (_SubstitutingDumper,), {"codec": codec})
        connection.adapters.register_dumper(str, dumper)


def as_json(content: Any) -> str:
    r"""Return JSON for a jsonb column.

    Non-ASCII characters aren't escaped: not every database can decode \u escapes.
    """
    return json.dumps(content, ensure_ascii=False)


def as_array(texts: Sequence[str]) -> str:
    """Return an array literal to be cast to text[]; psycopg takes twenty times as long to build it."""
    quoted = ['"' + each.replace("\\", r"\\").replace('"', r"\"") + '"' for each in texts]
    return "{" + ",".join(quoted) + "}"


def to_bytes(text: str) -> bytes:
    """Return the text's bytes as stored in the database: UTF-8, and a raw byte for each lone surrogate."""
    return text.encode("utf-8", _BYTE_BY_BYTE)


def is_text(text: str) -> bool:
    """Return whether a database can store the text: a lone surrogate is valid only if it stands for a byte."""
    try:
        to_bytes(text)
    except UnicodeEncodeError:
        return False
    return True


def unstorable(server_encoding: str, texts: Sequence[str | None]) -> str | None:
    """Return the first text that a database of this encoding can't store; no id in it can equal that text."""
    codec = "utf-8" if server_encoding in {"SQL_ASCII", "UTF8"} else _codec(server_encoding) or "utf-8"
    errors = _BYTE_BY_BYTE if server_encoding == "SQL_ASCII" else "strict"
    for each in texts:
        try:
            (each or "").encode(codec, errors)
        except UnicodeEncodeError:
            return each
    return None


def substituted(text: str, codec: str) -> str:
    """Return the text with each character that a codec lacks replaced by its code point, such as <U+4E2D>."""
    return text.encode(codec, "backfill.substitute").decode(codec)


def _codec(server_encoding: str) -> str | None:
    """Return the name of Python's codec; None if it has none: then only the server checks what it can store."""
    name = _PYTHON_NAMES.get(server_encoding, server_encoding.replace("WIN", "cp"))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(f"<U+{ord(each):04X}>" for each in lacking), error.end


codecs.register_error("backfill.substitute", _substitute)


class _ByteDumper(Dumper):
    """Sends lone surrogates as the bytes that they stand for."""

    def dump(self, obj: str) -> Buffer:
        if "\x00" in obj:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return to_bytes(obj)


class _ByteLoader(Loader):
    """Reads bytes that aren't UTF-8 as lone surrogates."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", _BYTE_BY_BYTE)


class _JsonByteLoader(JsonLoader):
    def load(self, data: Buffer) -> Any:
        return json.loads(bytes(data).decode("utf-8", _BYTE_BY_BYTE))


class _JsonbByteLoader(_JsonByteLoader, JsonbLoader):
    """The same for jsonb."""


class _SubstitutingDumper(Dumper):
    """Substitutes characters that the database lacks: a reason or a name of ours must not fail a page's record."""

    codec = "ascii"

    def dump(self, obj: str) -> Buffer:
        if "\x00" in obj:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return substituted(obj, self.codec).encode()


class Utf8Cursor(psycopg.Cursor[Any]):
    """Sends every statement in UTF-8; with a client encoding of SQL_ASCII, psycopg would allow only ASCII."""

    def execute(self, query: Any, *arguments: Any, **options: Any) -> "Utf8Cursor":
        """Execute a statement."""
        return super().execute(_bytes(query), *arguments, **options)

    def executemany(self, query: Any, *arguments: Any, **options: Any) -> None:
        """Execute a statement with many sets of parameters."""
        super().executemany(_bytes(query), *arguments, **options)


def _bytes(query: Any) -> Any:
    return query.encode() if isinstance(query, str) else query
