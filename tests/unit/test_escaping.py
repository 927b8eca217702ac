"""Outside text can't control a terminal or forge a line."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from celery.signals import after_setup_logger

from backfill_tasks.cli.streams import escape
from backfill_tasks.escaping import one_line, visible
from backfill_tasks.worker.app import app

CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"


class TestVisible:
    @pytest.mark.parametrize("character", [*"\x00\x07\x08\r\x1b\x7f\x9b\u2028\u202e\u2066"])
    def test_control_characters_and_line_breaks_are_escaped(self, character: str) -> None:
        assert visible(f"a{character}b") == f"a\\u{ord(character):04x}b"

    def test_text_of_any_language_is_unchanged(self) -> None:
        assert visible("Größe 大きさ 👍 · …\tx\n") == "Größe 大きさ 👍 · …\tx\n"

    def test_escaped_json_keeps_its_content(self) -> None:
        content = {"id": f"{CLIPBOARD}\x9b\u2028"}

        assert json.loads(visible(json.dumps(content, ensure_ascii=False))) == content


class TestOneLine:
    def test_line_feed_is_escaped_too(self) -> None:
        assert one_line("a\nbackfill: all is well") == "a\\nbackfill: all is well"

    def test_oversized_field_is_truncated_visibly(self) -> None:
        assert one_line("x" * 1_000_000, most=10) == "xxxxxxxxxx… (999,990 more characters)"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Return a logger configured like a worker's, and its output."""
    assert app.main == "backfill"  # importing the app connects its signal
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger("test_escaping")
    logger.addHandler(handler)
    after_setup_logger.send(sender=None, logger=logger)
    yield logger, written
    logger.removeHandler(handler)


def test_workers_log_message_is_one_truncated_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log

    logger.warning("page of %s", f"{CLIPBOARD}\n2026-01-01 INFO page committed {'x' * 1_000_000}")

    assert written.getvalue().count("\n") == 1
    assert "\x1b" not in written.getvalue()
    assert len(written.getvalue()) < 5_000


def test_trailing_line_feed_of_a_log_message_is_dropped(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log

    logger.warning("consumer: Cannot connect to %s.\nTrying again.\n\n", "redis://")

    assert written.getvalue() == "consumer: Cannot connect to redis://.\\nTrying again.\n"


def test_command_output_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    escape()

    print(CLIPBOARD)  # noqa: T201

    assert written.getvalue() == "\\u001b]52;c;cm0gLXJm\\u0007\n"
