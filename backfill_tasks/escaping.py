"""Make text from outside safe to print: ids, tags and error texts can carry escape sequences and line breaks."""

import logging
import re

#: The most of one log message that is written, in characters.
_MOST_LOGGED = 4_000

#: Control characters but tab and line feed, line and paragraph separators, marks that reorder text, half characters.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Replace every character that could drive a terminal by its escape, \u001b, which is valid in JSON's strings too.

    Line feeds stay: they are the output's own layout. `one_line` is for a field.
    """
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str, *, most: int | None = None) -> str:
    """Do what `visible` does, replace line feeds too, and cut what is longer than `most` characters."""
    cut = text if most is None or len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"
    return visible(cut).replace("\n", "\\n").replace("\t", "\\t")


def shown(text: str, most: int = 200) -> str:
    """Return a text that somebody else wrote, cut and with everything escaped that a terminal or a log would obey."""
    escaped = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[: most + 1]
    )
    return escaped if len(escaped) <= most else f"{escaped[: most - 1]}…"


class OneLineFilter(logging.Filter):
    """Keeps each log message on its own line, escaped and of a bounded length. A traceback keeps its lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the record's message; always True."""
        # Celery ends some of its messages with a line feed of its own; the handler adds one anyway.
        record.msg, record.args = one_line(record.getMessage().rstrip(), most=_MOST_LOGGED), None
        return True
