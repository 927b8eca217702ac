"""A poison page, which kills its worker every time: its lane fails with a reason, the others continue."""

import pytest
from faults.stage import Stage

REASON = "page 3 killed its worker 5 times: see the workers' logs"


def test_a_page_that_kills_its_child_process_fails_only_its_lane(stage: Stage) -> None:
    stage.sabotage.plan("page done", "kill child", lane=1, page=3, always=True)

    run = stage.run(status=1)

    assert [(lane["state"], lane["reason"]) for lane in run["lanes"]] == [("failed", REASON), ("done", None)]
    assert run["lanes"][0]["pages"] == 2
    stage.sabotage.clear()
    stage.assert_done_once(stage.resume())


@pytest.mark.long
def test_a_page_that_kills_its_whole_worker_fails_only_its_lane(stage: Stage) -> None:
    stage.sabotage.plan("page done", "kill worker", lane=1, page=3, always=True)

    run = stage.follow()
    for _ in range(5):
        stage.replace_the_killed_worker()

    ended = run.end(status=1)
    assert [(lane["state"], lane["reason"]) for lane in ended["lanes"]] == [("failed", REASON), ("done", None)]
    assert ended["lanes"][0]["pages"] == 2
