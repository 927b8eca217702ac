"""How many examples are tried: by default a few fixed ones; with HYPOTHESIS_PROFILE=thorough many new ones."""

import os

from hypothesis import HealthCheck, Phase, settings

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

_MUCH = 20
#: The examples are large on purpose, and each one empties the servers behind the fixtures.
_EXPECTED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)


def tried(examples: int, *, steps: int = 30, much: int = _MUCH, shrinks: bool = True) -> settings:
    """Return Hypothesis settings with this many examples, `much` times as many when thorough.

    Args:
        examples: how many examples, by default.
        steps: how many steps a state machine takes.
        much: the factor of a thorough run.
        shrinks: whether a failing example can be repeated, and so shrunk.
    """
    phases = (Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrinks else []))
    return settings(
        max_examples=examples * (much if THOROUGH else 1),
        stateful_step_count=steps * (2 if THOROUGH else 1),
        deadline=None,
        derandomize=not THOROUGH,
        print_blob=True,
        phases=phases,
        suppress_health_check=_EXPECTED,
        report_multiple_bugs=False,
    )
