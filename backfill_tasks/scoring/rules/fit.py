"""How well the lead's company matches the workspace's ideal customer."""

import re
from collections.abc import Sequence
from functools import cache

from backfill_tasks.scoring.contract import Conversation
from backfill_tasks.scoring.rules.cues import is_word, read
from backfill_tasks.scoring.rules.intent import Judged
from backfill_tasks.scoring.rules.words import own_words, words

POOR, UNCERTAIN, GOOD, GREAT = 1, 2, 3, 4

#: How much of a field is read, in characters.
_MOST = 4_000

_NUMBER = re.compile(r"\d[\d,.']{0,12}")
_EMPLOYEES = frozenset({"employees", "people", "staff", "seats", "headcount", "mitarbeiter", "salariés", "empleados"})
#: Shorter words rarely tell what a company does; these don't, either. All without the ending of a plural.
_SHORTEST = 5
_SAYS_NOTHING = frozenset(
    {"about", "between", "business", "businesse", "companie", "company", "customer", "employee", "europe", "group"}
    | {"international", "least", "medium", "other", "people", "product", "service", "small", "solution", "state"}
    | {"their", "there", "these", "those", "united", "where", "which", "world"}
)
#: How far from the word for employees a number may stand, in words.
_NEAR = 6
_NO_MAXIMUM = 10**9


def judge(conversation: Conversation) -> Judged:
    """Return the fit: the sector first, then the number of employees."""
    ideal = conversation.workspace.ideal_customer_profile[:_MOST]
    company = f"{conversation.industry[:_MOST]} {conversation.company_name[:_MOST]}"
    wanted, own = _sectors(ideal), _sectors(company)
    if wanted & own:
        return _by_size(ideal, conversation.employee_headcount, "industry-matches")
    if wanted and own:
        return Judged(POOR, ("industry-differs",))
    if _telling(ideal) & _telling(company):
        return _by_size(ideal, conversation.employee_headcount, "words-match")
    return Judged(UNCERTAIN, ("industry-unknown" if wanted else "ideal-customer-unknown",))


def _by_size(ideal: str, headcount: str, matches: str) -> Judged:
    """Return the fit of a company of the right kind."""
    least, most = _range(ideal)
    number = _first_number(headcount)
    if (least, most) == (0, _NO_MAXIMUM):
        return Judged(GREAT, (matches,))
    if number is None:
        return Judged(GOOD, (matches, "size-unknown"))
    if least <= number <= most:
        return Judged(GREAT, (matches, "size-matches"))
    return Judged(UNCERTAIN, (matches, "size-differs"))


def _range(ideal: str) -> tuple[int, int]:
    """Return the least and the most employees of an ideal customer, as far as its text says so."""
    said = ideal.casefold().replace("-", " ").replace("\u2013", " ").split()
    for at, word in enumerate(said):
        if word.strip(".,;:()") in _EMPLOYEES:
            near = said[max(0, at - _NEAR) : at]
            numbers = [number for each in near if (number := _first_number(each)) is not None]
            if len(numbers) > 1:
                return numbers[-2], numbers[-1]
            if numbers:
                up_to = {"under", "below", "most", "fewer", "less"} & set(near)
                return (0, numbers[0]) if up_to else (numbers[0], _NO_MAXIMUM)
    return 0, _NO_MAXIMUM


def _first_number(text: str) -> int | None:
    found = _NUMBER.search(text[:_MOST])
    digits = re.sub(r"[^0-9]", "", found[0]) if found else ""
    return int(digits) if digits else None


def _telling(text: str) -> set[str]:
    """Return the words of a text that may tell what a company does, without the ending of a plural."""
    return {word.removesuffix("s") for word in words(own_words(text)) if len(word) >= _SHORTEST} - _SAYS_NOTHING


def _sectors(text: str) -> set[str]:
    """Return the sectors that a text's words belong to."""
    said = words(own_words(text))
    return {name for name, wanted in _table() if any(is_word(word, each) for word in said for each in wanted)}


@cache
def _table() -> Sequence[tuple[str, tuple[str, ...]]]:
    return [(name, tuple(entry)) for name, entry in read("sectors.toml").items()]
