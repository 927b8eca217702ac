"""How much interest the lead's own messages show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backfill_tasks.scoring.contract import Line
from backfill_tasks.scoring.rules.cues import Found, cues
from backfill_tasks.scoring.rules.words import own_words, words

#: Only so many of the newest inbound messages are read: an older one is no longer what the lead thinks.
MOST_MESSAGES = 10

REJECTS, COLD, SOME, HIGH = 1, 2, 3, 4

_BUT = frozenset({"but", "however", "though", "although", "aber", "mais", "pero", "ma", "mas", "maar", "men", "ale"})
_QUESTION = "asks-a-question"
_NOTHING = "says-nothing-of-interest"
_AUTOMATIC = "automatic-reply"


@dataclass(frozen=True)
class Judged:
    """A level from 1 to 4, and the rules that led to it."""

    level: int
    rules: tuple[str, ...]


def judge(lines: Sequence[Line]) -> Judged:
    """Return the intent of a conversation: that of its newest message that says something about it.

    A message that a program wrote says nothing. After a refusal, a cold message changes nothing.
    """
    inbound = [each.text for each in lines if each.inbound][-MOST_MESSAGES:]
    found = [_of_message(each) for each in inbound]
    telling = [each for each in found if each.rules not in ((_NOTHING,), (_AUTOMATIC,))]
    if telling:
        return telling[-1]
    return found[-1] if found else Judged(COLD, (_NOTHING,))


def _of_message(text: str) -> Judged:
    own = own_words(text)
    said = words(own)
    found = list(cues().find(own, said))
    if _with(found, "automatic"):
        return Judged(COLD, (_AUTOMATIC,))
    if stops := _with(found, "stop"):
        return Judged(REJECTS, _names(stops))
    refusals = _with(found, "no")
    if refusals and not _is_taken_back(said, found, refusals):
        # Whoever leaves may name a successor.
        colleague = [each for each in found if each.rule == "refers-to-a-colleague"]
        if colleague and all(each.rule == "wrong-person" for each in refusals):
            return Judged(SOME, _names([*refusals, *colleague]))
        return Judged(REJECTS, _names(refusals))
    return _of_interest(said, found)


def _of_interest(said: Sequence[str], found: Sequence[Found]) -> Judged:
    """Return the intent of a message without a refusal."""
    high, later, some, cold = (_with(found, each) for each in ("high", "later", "some", "cold"))
    if later:
        return Judged(SOME, _names([*later, *high]))
    if high:
        return Judged(HIGH, _names(high))
    asks = (_QUESTION,) if _asks(said) else ()
    if any(each.rule == "asks-who-writes" for each in cold):
        return Judged(COLD, _names(cold))
    if asks or (some and not cold):
        return Judged(SOME, (*_names(some), *asks))
    return Judged(COLD, _names(cold) or (_NOTHING,))


def _asks(said: Sequence[str]) -> bool:
    """Return whether there is a question of more than one word."""
    return any(word == "?" and at > 1 and said[at - 1] != "?" for at, word in enumerate(said))


def _is_taken_back(said: Sequence[str], found: Sequence[Found], refusals: Sequence[Found]) -> bool:
    """Return whether interest follows a refusal in the same message, after a "but"."""
    last = max(each.at for each in refusals)
    buts = [at for at, word in enumerate(said) if word in _BUT and at > last]
    return bool(buts) and any(each.at > buts[0] and each.means in {"high", "some", "later"} for each in found)


def _with(found: Iterable[Found], means: str) -> list[Found]:
    return [each for each in found if each.means == means]


def _names(found: Iterable[Found]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.rule for each in found))
