"""The lead's own words: messages without markup, quoted mail and signatures, cut into words.

Messages are hostile: of any length, in any script, with any markup. Each function is linear in the length of its text,
and no text is longer than `MOST_CHARACTERS`.
"""

import html
import re
import unicodedata

#: Only so much of a message is read, in characters: a reply starts with what its author says.
MOST_CHARACTERS = 8_000

#: One run of letters or digits, with apostrophes inside; or a question mark.
_WORD = re.compile(r"\w+(?:'\w+)*|\?")

_TAG = re.compile(r"<[^<>]*>")
_IS_MARKUP = re.compile(r"<(?:!doctype|html|body|div|p|br|span|table|blockquote|b|i|a|font)[\s/>]", re.IGNORECASE)
_TAG_NAME = re.compile(r"</?\s*([a-z]+)", re.IGNORECASE)
_BREAKS = frozenset({"p", "br", "div", "tr", "li", "blockquote", "table", "html", "body"})
#: Elements whose content the author didn't write, or that isn't shown.
_HIDDEN = frozenset({"style", "script", "head", "title", "blockquote"})

#: The first words of a line after which an earlier message is quoted, with those that its end may have.
_QUOTES = (
    ("on ", "wrote:"),
    ("am ", "schrieb"),
    ("le ", "a écrit"),
    ("el ", "escribió"),
    ("il ", "ha scritto"),
    ("em ", "escreveu"),
    ("op ", "schreef"),
    ("den ", "skrev"),
)
_HEADERS = ("from:", "von:", "de:", "da:", "van:", "från:", "fra:", "od:", "差出人:")
_SEPARATORS = ("-----original message", "----- original message", "________", "---------- forwarded message")

#: The beginnings of lines that end what the author says, or that a program adds.
_SIGNATURES = ("confidentiality notice", "this e-mail may contain", "this email may contain", "disclaimer:")
_ADDED = ("sent from my ", "get outlook for ", "von meinem iphone gesendet", "envoyé de mon ", "enviado desde mi ")

#: How much of a line is looked at to tell what it is.
_LINE = 200


def own_words(text: str) -> str:
    """Return what the author of a message wrote: plain text, in lower case, one form for each character."""
    plain = _without_markup(text[:MOST_CHARACTERS])
    # One character may become 18.
    normal = unicodedata.normalize("NFKC", plain)[:MOST_CHARACTERS]
    folded = normal.replace("\u2019", "'").replace("\u02bc", "'").casefold()
    return "\n".join(_own_lines(folded.splitlines()))


def words(text: str) -> list[str]:
    """Return the words of a text in order; a question mark is one."""
    return _WORD.findall(text)


def _without_markup(text: str) -> str:
    if not _IS_MARKUP.search(text):
        return text
    kept: list[str] = []
    hidden, position = 0, 0
    for tag in _TAG.finditer(text):
        if not hidden:
            kept.append(text[position : tag.start()])
        position = tag.end()
        found = _TAG_NAME.match(tag[0])
        name = found[1].lower() if found else ""
        if name in _HIDDEN:
            hidden = max(0, hidden - 1) if tag[0].startswith("</") else hidden + 1
        kept.append("\n" if name in _BREAKS else " ")
    if not hidden:
        kept.append(text[position:])
    return html.unescape("".join(kept))


def _own_lines(lines: list[str]) -> list[str]:
    own: list[str] = []
    for number, line in enumerate(lines):
        start = line.strip()[:_LINE]
        if start.startswith(">") or start.startswith(_ADDED):
            continue
        if start == "--" or start.startswith(_SIGNATURES):
            break
        if _opens_quote(start, line.strip()[-_LINE:]):
            following = next((each.strip() for each in lines[number + 1 :] if each.strip()), "")
            if not following.startswith(">"):  # the rest is quoted, without marks
                break
            continue
        own.append(line)
    return own


def _opens_quote(start: str, end: str) -> bool:
    if start.startswith((*_HEADERS, *_SEPARATORS)):
        return True
    return any(start.startswith(first) and last in end for first, last in _QUOTES)
