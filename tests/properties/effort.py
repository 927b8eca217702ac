"""How many examples a property test tries, as HYPOTHESIS_PROFILE says.

By default a few, for `make test`; with `long`, which `make test-long` sets, more, which are always the same; with
`thorough` many new ones.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
SHORT = _PROFILE == "short"
_THOROUGH = _PROFILE == "thorough"

_MUCH = 20
#: The part of a long run's examples that a short run tries.
_LITTLE = 5
#: The examples are large on purpose, and each one empties the servers behind the fixtures.
_EXPECTED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)


def tried(examples: int, *, steps: int = 30, much: int = _MUCH, shrinks: bool = True) -> settings:
    """Return Hypothesis settings for this many examples in a long run.

    Args:
        examples: how many examples a long run tries. A short run tries a fifth of them, but at least two.
        steps: how many steps a state machine takes.
        much: the factor of a thorough run.
        shrinks: whether a failing example can be repeated, and so shrunk.
    """
    phases = (Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrinks else []))
    return settings(
        max_examples=max(2, examples // _LITTLE) if SHORT else examples * (much if _THOROUGH else 1),
        stateful_step_count=steps * (2 if _THOROUGH else 1),
        deadline=None,
        derandomize=not _THOROUGH,
        print_blob=True,
        phases=phases,
        suppress_health_check=_EXPECTED,
        report_multiple_bugs=False,
    )
