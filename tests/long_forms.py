"""Which cases of a test `make test` leaves to `make test-long`."""

from collections.abc import Iterable
from typing import Any

import pytest


def long_except(cases: Iterable[Any], *places: int) -> list[Any]:
    """Return the cases of a `parametrize`, marked as long except for those at the given places.

    A tuple has one value for each of several arguments; the case of a single argument is anything else.
    """
    return [case if place in places else _long(case) for place, case in enumerate(cases)]


def _long(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.long)
