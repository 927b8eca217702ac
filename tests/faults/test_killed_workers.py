"""A worker that is killed between any two steps of a page: the run ends by itself, as if nothing had been."""

import pytest
from faults.stage import Stage

IN_A_PAGE = (
    "taken up",
    "lane held",
    "begin counted",
    "page done",
    "page recorded",
    "page committed",
    "next sent",
    "cursor moved",
)
AT_THE_END = ("lane ended", "run ended", "cursors forgotten")
MOMENTS = [*((step, 3) for step in IN_A_PAGE), *((step, None) for step in AT_THE_END)]


@pytest.mark.parametrize(("step", "page"), MOMENTS)
def test_a_child_that_is_killed_costs_nothing(stage: Stage, step: str, page: int | None) -> None:
    stage.sabotage.plan(step, "kill child", page=page)

    run = stage.follow()

    stage.sabotage.wait_until_reached(step)
    stage.assert_done_once(run.end())


@pytest.mark.parametrize(("step", "page"), MOMENTS)
def test_a_whole_worker_that_is_killed_costs_nothing(stage: Stage, step: str, page: int | None) -> None:
    stage.sabotage.plan(step, "kill worker", page=page)

    run = stage.follow()

    stage.sabotage.wait_until_reached(step)
    stage.replace_the_killed_worker()
    stage.assert_done_once(run.end())
