"""Make external text safe to print: ids, tags and error texts can contain escape sequences and line breaks."""

import logging
import re

#: The longest log message that is written in full, in characters.
_MOST_LOGGED = 4_000

#: Control characters except tab and line feed, line and paragraph separators, bidirectional marks, lone surrogates.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Replace every character that could control a terminal by its escape, such as \u001b, also valid in JSON strings.

    Line feeds stay: they are the output's own layout. For single fields, use `one_line`.
    """
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str, *, most: int | None = None) -> str:
    """Do what `visible` does, escape line feeds and tabs, too, and cut text longer than `most` characters."""
    cut = text if most is None or len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"
    return visible(cut).replace("\n", "\\n").replace("\t", "\\t")


def shown(text: str, most: int = 200) -> str:
    """Return external text, cut, with every character escaped that could control a terminal or a log."""
    escaped = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[: most + 1]
    )
    return escaped if len(escaped) <= most else f"{escaped[: most - 1]}…"


class OneLineFilter(logging.Filter):
    """Keeps each log message on one line, escaped and of bounded length. Tracebacks keep their lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the record's message and return True."""
        # Celery ends some messages with a line feed; the handler adds one anyway.
        record.msg, record.args = one_line(record.getMessage().rstrip(), most=_MOST_LOGGED), None
        return True
