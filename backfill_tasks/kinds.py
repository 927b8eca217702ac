"""The kinds of values that options take: how they are parsed, checked, and named in messages."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)

#: The most digits read of a whole number, and the most characters of an invalid value repeated in a message.
_MOST_DIGITS = _MOST_REPEATED = 40


def quoted(value: object) -> str:
    """Return an invalid value as a message may repeat it: text in quotes, and long values cut."""
    text = repr(value)
    return text if len(text) <= _MOST_REPEATED + 2 else f"{text[:_MOST_REPEATED]}… ({len(str(value)):,} characters)"


def _plain(number: float) -> str:
    """Return a number without an exponent."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


class Kind(ABC):
    """The type of an option's values."""

    metavar: ClassVar[str] = "VALUE"

    @property
    @abstractmethod
    def values(self) -> str:
        """The valid values, in words."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Parse a value from the command line or the environment. Raises ValueError with the reason."""

    @abstractmethod
    def check(self, value: Any) -> Any:
        """Return a value from Python or JSON if it is valid. Raises ValueError with the reason."""


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number within a range; with `off`, also `none` (None); with `auto`, also `auto` (the text itself).

    `because`: the reason for the maximum.
    """

    least: int
    most: int
    off: bool = False
    auto: bool = False
    because: str = ""
    metavar: ClassVar[str] = "N"

    @property
    def values(self) -> str:
        """The range."""
        return f"whole, {self.least:,} to {self.most:,}{self._words}"

    def parse(self, text: str) -> int | str | None:
        """Parse a number in decimal digits."""
        if self.off and text == "none":
            return None
        if self.auto and text == "auto":
            return "auto"
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
            raise self._refusal(text)
        return self.check(int(text), given=text)

    def check(self, value: Any, *, given: object = None) -> int | str | None:
        """Return the value if it is an int within the range."""
        if self.off and value is None:
            return None
        if self.auto and value == "auto":
            return "auto"
        if type(value) is not int or not self.least <= value <= self.most:
            raise self._refusal(value if given is None else given)
        return value

    def _refusal(self, value: object) -> ValueError:
        why = f": {self.because}" if self.because else ""
        return ValueError(f"{quoted(value)} is not a whole number from {self.least} to {self.most}{self._words}{why}")

    @property
    def _words(self) -> str:
        """The values that are no numbers, in words."""
        return f"{', auto' if self.auto else ''}{', or none' if self.off else ''}"


@dataclass(frozen=True)
class Number(Kind):
    """A number within a range, fractions included; with `off`, also `none` (None)."""

    least: float
    most: float
    off: bool = False
    metavar: ClassVar[str] = "N"

    @property
    def values(self) -> str:
        """The range."""
        return f"{_plain(self.least)} to {_plain(self.most)}{', or none' if self.off else ''}"

    def parse(self, text: str) -> float | None:
        """Parse a number in decimal digits, with or without a decimal point."""
        if self.off and text == "none":
            return None
        if not _NUMBER.fullmatch(text):
            raise self._refusal(text)
        return self.check(float(text), given=text)

    def check(self, value: Any, *, given: object = None) -> float | None:
        """Return the value as a float if it is an int or a float within the range."""
        if self.off and value is None:
            return None
        if type(value) not in (int, float) or not self.least <= value <= self.most:
            raise self._refusal(value if given is None else given)
        return float(value)

    def _refusal(self, value: object) -> ValueError:
        or_none = ", or none" if self.off else ""
        return ValueError(f"{quoted(value)} is not a number from {self.least:g} to {self.most:g}{or_none}")


@dataclass(frozen=True)
class Flag(Kind):
    """On or off."""

    @property
    def values(self) -> str:
        """On or off."""
        return "on or off"

    def parse(self, text: str) -> bool:
        """Parse true or false."""
        if text not in ("true", "false"):
            raise ValueError(f"{quoted(text)} is neither true nor false")
        return text == "true"

    def check(self, value: Any) -> bool:
        """Return the value if it is a bool."""
        if type(value) is not bool:
            raise ValueError(f"{quoted(value)} is neither true nor false")
        return value


@dataclass(frozen=True)
class Text(Kind):
    """A non-empty text; None: not given. `without`: what the run does if the option isn't given."""

    without: str = ""
    metavar: ClassVar[str] = "ID"

    @property
    def values(self) -> str:
        """Any text."""
        return "a text"

    def parse(self, text: str) -> str | None:
        """Return the text if it is valid."""
        return self.check(text)

    def check(self, value: Any) -> str | None:
        """Return the value if it is a text that PostgreSQL can store."""
        if value is None:
            return None
        if value == "":
            to_what = f" to {self.without}" if self.without else ""
            raise ValueError(f"the value is empty: give one, or remove the option{to_what}")
        if type(value) is not str or "\x00" in value:
            raise ValueError(f"{quoted(value)} is not a text without NUL characters")
        return value


@dataclass(frozen=True)
class Texts(Kind):
    """Several texts, sorted and without duplicates; None: not given. On the command line, the flag is repeated."""

    metavar: ClassVar[str] = "ID"

    @property
    def values(self) -> str:
        """Any texts."""
        return "texts, the flag repeated"

    def parse(self, text: str) -> list[str] | None:
        """Parse one of the texts."""
        return self.check([text])

    def check(self, value: Any) -> list[str] | None:
        """Return the sorted texts of a list or a tuple; None if it is empty."""
        if value is None:
            return None
        if type(value) not in (list, tuple):
            raise ValueError(f"{quoted(value)} is not a list of texts")
        one = Text()
        if any(one.check(each) is None for each in value):
            raise ValueError("None is not a text")
        return sorted(set(value)) or None
