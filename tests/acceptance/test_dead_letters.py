"""The command `dead-letters`, and the doctor's finding and the metric about dead letters."""

import json
from collections.abc import Iterator

import pytest
from acceptance.exporter import Export
from harness import Backfill
from redis import Redis

from backfill_tasks.worker.dead_letters import DeadLetter, DeadLetters


@pytest.fixture
def backfill(alone: Backfill) -> Backfill:
    """The command, on a Redis without a worker, so that only the test adds dead letters."""
    return alone


@pytest.fixture
def letters(backfill: Backfill) -> Iterator[DeadLetters]:
    """The dead letters of the command's environment; one of them contains a terminal's control sequence."""
    with Redis.from_url(backfill.environment["REDIS_URL"]) as client:
        letters = DeadLetters(client, backfill.environment.get("BACKFILL_QUEUE", "backfill"))
        letters.clear()
        letters.park(DeadLetter.of("\x1b]52;c;evil\x07\nforged" + "x" * 50_000, "a\x1b[2J", "it is not JSON"))
        yield letters
        letters.clear()


def test_letters_are_listed_with_their_reason_in_80_columns(backfill: Backfill, letters: DeadLetters) -> None:
    done = backfill("dead-letters")

    assert done.returncode == 0
    assert "it is not JSON" in done.stdout
    assert "\x1b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("forged") or len(line) > 80] == []


def test_json_has_the_whole_kept_letter(backfill: Backfill, letters: DeadLetters) -> None:
    (letter,) = backfill.json("dead-letters")["dead_letters"]

    assert letter["reason"] == "it is not JSON"
    assert letter["size"] > 50_000
    assert len(letter["message"]) < 10_000


def test_clear_removes_the_letters(backfill: Backfill, letters: DeadLetters) -> None:
    assert backfill("dead-letters", "--clear").returncode == 0

    assert backfill("dead-letters").stdout == "There are no dead letters.\n"


def test_doctor_says_what_to_do_about_dead_letters(backfill: Backfill, letters: DeadLetters) -> None:
    said = " ".join(backfill("doctor").stdout.split())

    assert "look 1 message is in the dead letters" in said
    assert "backfill dead-letters --clear" in said


def test_dead_letters_are_a_metric(backfill: Backfill, letters: DeadLetters, export: Export) -> None:
    assert export(backfill).scrape()("backfill_dead_letters") == 1


def test_parking_a_letter_twice_keeps_one_copy(letters: DeadLetters) -> None:
    letter = DeadLetter.of("x", "q", "why")

    letters.park(letter)
    letters.park(letter)

    assert letters.count() == 2


def test_a_malformed_letter_is_still_shown(backfill: Backfill, letters: DeadLetters) -> None:
    with Redis.from_url(backfill.environment["REDIS_URL"]) as client:
        client.lpush(letters.key, "junk", json.dumps({"at": 1}), b"\xff")

    done = backfill("dead-letters")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this entry is not a dead letter") == 3
