"""`backfill worker` and `backfill beat` take Celery's options."""

from harness import Backfill


def test_worker_refuses_an_unknown_option_in_one_line(alone: Backfill) -> None:
    done = alone("worker", "--concurency=2")

    assert done.returncode == 2
    assert "No such option '--concurency'" in done.stderr
    assert "Traceback" not in done.stderr


def test_worker_refuses_an_unusable_setting_in_one_line(alone: Backfill) -> None:
    done = alone.set(BACKFILL_RATE_LIMIT="fast")("worker")

    assert done.returncode == 2
    assert done.stderr.startswith("backfill: BACKFILL_RATE_LIMIT: ")
    assert done.stderr.count("\n") == 1


def test_worker_that_should_detach_names_the_command_that_does(alone: Backfill) -> None:
    done = alone("worker", "--detach")

    assert done.returncode == 2
    assert "celery -A backfill_tasks worker --detach" in done.stderr


def test_variables_set_the_options_of_worker_as_for_celery(alone: Backfill) -> None:
    done = alone.set(CELERY_WORKER_CONCURRENCY="two")("worker")

    assert done.returncode == 2
    assert "CELERY_WORKER_CONCURRENCY" in done.stderr or "--concurrency" in done.stderr
