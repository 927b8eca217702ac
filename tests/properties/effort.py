"""The number of examples of a property test, according to HYPOTHESIS_PROFILE.

By default few, for `make test`; with `long`, set by `make test-long`, more, and always the same ones; with
`thorough` many new ones.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
SHORT = _PROFILE == "short"
_THOROUGH = _PROFILE == "thorough"

_MUCH = 20
#: The divisor from a long run's number of examples to a short run's.
_LITTLE = 5
#: Examples are large on purpose, and each one empties the servers behind the fixtures.
_EXPECTED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)


def tried(examples: int, *, steps: int = 30, much: int = _MUCH, shrinks: bool = True) -> settings:
    """Return Hypothesis settings for this many examples in a long run.

    Args:
        examples: the number of examples of a long run. A short run tries a fifth of them, but at least two.
        steps: the number of steps of a state machine.
        much: the factor for a thorough run.
        shrinks: whether a failing example is reproducible, and so can be shrunk.
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
