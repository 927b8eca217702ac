"""Parametrized cases that run only in `make test-long`.

A tuple holds the values of several arguments; any other object is the value of a single argument.
"""

from collections.abc import Sequence
from typing import Any

import pytest


def long(*cases: Any) -> list[Any]:
    """Return cases of a `parametrize`, marked as long."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long) for case in cases]


def long_except(kept: Any, cases: Sequence[Any]) -> list[Any]:
    """Return the cases, all but one of them marked as long."""
    return [kept, *long(*(case for case in cases if case != kept))]


def sampled(cases: Sequence[Any], *, every: int) -> list[Any]:
    """Return the cases, those between every `every`-th one marked as long."""
    return [each for place, case in enumerate(cases) for each in ([case] if place % every == 0 else long(case))]
