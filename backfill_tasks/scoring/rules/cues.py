"""The phrases to look for, and where they stand in a text."""

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

#: How a phrase is written: a word with any ending, up to three words, the whole message; the shortest beginning.
_ANY_ENDING, _GAP, _WHOLE, _SHORTEST = "~", "*", "=", 4
_LONGEST_GAP = 3

#: The first of the scripts that are written without spaces.
_UNSPACED = "\u3040"

MEANINGS = ("automatic", "stop", "no", "later", "some", "high", "cold")


@dataclass(frozen=True)
class Found:
    """A phrase in a text. `at`: the number of its first word."""

    rule: str
    means: str
    at: int


@dataclass(frozen=True)
class _Phrase:
    rule: str
    means: str
    words: tuple[str, ...]


class Cues:
    """All phrases, by their first words: a text is searched in one pass, whatever it is made of."""

    def __init__(self, rules: Mapping[str, Mapping[str, object]]) -> None:
        self._by_word: dict[str, list[_Phrase]] = defaultdict(list)
        self._by_beginning: dict[str, list[_Phrase]] = defaultdict(list)
        self._unspaced: list[_Phrase] = []
        self._whole: dict[tuple[str, ...], _Phrase] = {}
        for rule, entry in rules.items():
            phrases = entry["phrases"]
            assert isinstance(phrases, list)  # noqa: S101  the file is part of this package
            for each in phrases:
                self._add(_Phrase(rule, str(entry["means"]), tuple(each.split())))

    def _add(self, phrase: _Phrase) -> None:
        first = phrase.words[0]
        if first == _WHOLE:
            self._whole[phrase.words[1:]] = phrase
        elif first[0] >= _UNSPACED:
            self._unspaced.append(phrase)
        elif first.endswith(_ANY_ENDING):
            self._by_beginning[first[:_SHORTEST]].append(phrase)
        else:
            self._by_word[first].append(phrase)

    def find(self, text: str, words: Sequence[str]) -> Iterator[Found]:
        """Yield the phrases in a text, which is given as a whole and as its words."""
        whole = self._whole.get(tuple(words)) if len(words) <= _LONGEST_GAP else None
        if whole is not None:
            yield Found(whole.rule, whole.means, 0)
        for phrase in self._unspaced:
            if phrase.words[0] in text:
                yield Found(phrase.rule, phrase.means, 0)
        for at, word in enumerate(words):
            for phrase in (*self._by_word.get(word, ()), *self._by_beginning.get(word[:_SHORTEST], ())):
                if _matches(words, at, phrase.words):
                    yield Found(phrase.rule, phrase.means, at)


def _matches(words: Sequence[str], at: int, phrase: Sequence[str]) -> bool:
    for number, wanted in enumerate(phrase):
        if wanted == _GAP:
            rest = phrase[number + 1 :]
            return any(_matches(words, at + skipped, rest) for skipped in range(_LONGEST_GAP + 1))
        if at >= len(words) or not is_word(words[at], wanted):
            return False
        at += 1
    return True


def is_word(word: str, wanted: str) -> bool:
    """Return whether a word is the wanted one, or has the wanted beginning (`wanted` ends with `~`)."""
    return word.startswith(wanted[:-1]) if wanted.endswith(_ANY_ENDING) else word == wanted


@cache
def cues() -> Cues:
    """Return the phrases of `cues.toml`."""
    return Cues(read("cues.toml"))


def read(name: str) -> Mapping[str, Mapping[str, object]]:
    """Return a TOML file of this package."""
    return tomllib.loads(files("backfill_tasks.scoring.rules").joinpath(name).read_text(encoding="utf-8"))
