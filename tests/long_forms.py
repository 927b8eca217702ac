"""Parametrized cases that run only in `make test-long`."""

from collections.abc import Iterable
from typing import Any

import pytest


def long_except(cases: Iterable[Any], *places: int) -> list[Any]:
    """Return the cases of a `parametrize`, marked as long except those at the given positions.

    A tuple holds the values of several arguments; any other object is the value of a single argument.
    """
    return [case if place in places else _long(case) for place, case in enumerate(cases)]


def _long(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.long)
