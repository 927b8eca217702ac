"""The orders for the drain, and the secret."""

from pathlib import Path
from typing import Any

import pytest

from backfill_tasks import settings
from backfill_tasks.drain import secret
from backfill_tasks.drain.orders import EVERY, MAX_FAILURE_RATE, Orders, require_url
from backfill_tasks.errors import ConfigurationError, UsageError

URL = "https://host.example/api/cron/background-jobs"


@pytest.mark.parametrize(
    "url", [URL, "https://host:8443/x", "http://127.0.0.1:3000/x", "http://localhost/x", "http://[::1]:3000/x"]
)
def test_the_url_of_a_route_is_accepted(url: str) -> None:
    require_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://hunter2@host/x", "https://me:hunter2@host/x", "https://host/x?secret=hunter2", "https://host/x#hunter2",
        "https://host/x?", "ftp://hunter2/x", "hunter2", "", "https://", "https:///hunter2", "https://host:hunter2/x",
        "https://host/hun ter2", "https://host/\nhunter2", "https://host\\@hunter2/x", "https://höst/hunter2",
        "https://[hunter2/x", "https://host/" + "hunter2" * 1_000,
    ],
)  # fmt: skip
def test_a_url_that_may_hold_a_secret_or_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        require_url(url, allow_http=True)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://host.example/x", "http://10.0.0.1/x", "http://127.0.0.1.example/x"])
def test_http_to_another_machine_is_refused_unless_told_otherwise(url: str) -> None:
    with pytest.raises(UsageError, match="--allow-http"):
        require_url(url, allow_http=False)

    require_url(url, allow_http=True)


def test_omitted_options_have_defaults() -> None:
    orders = Orders.given(URL, allow_http=False)

    assert orders == Orders(URL, 10, 2, until_done=False, max_failure_rate=0.2, max_live_wait=180)


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0.5}, {"every": 3601}, {"every": "10s"}, {"every": True}, {"parallel": 0}, {"parallel": 21},
        {"max_failure_rate": 20}, {"max_failure_rate": -0.1}, {"max_live_wait": -1}, {"until_done": 1}, {"limit": 5},
        {"every": float("nan")},
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Orders.given(URL, allow_http=False, **options)


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("1.5s", 1.5), ("2m", 120), ("1h", 3600)])
def test_a_duration_is_typed_with_its_unit(text: str, seconds: float) -> None:
    assert EVERY.kind.parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["10", "10 s", "s", "-1s", "0s", "2h", "1e1s", "10ms", "9" * 5_000 + "s", "\u0661s", ""]
)
def test_another_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        EVERY.kind.parse(text)


@pytest.mark.parametrize(("text", "share"), [("20%", 0.2), ("0%", 0), ("100%", 1), ("2.5%", 0.025), ("none", None)])
def test_a_failure_rate_is_typed_in_percent(text: str, share: float | None) -> None:
    assert MAX_FAILURE_RATE.kind.parse(text) == share


@pytest.mark.parametrize("text", ["0.2", "20", "101%", "-1%", "%", "", "9" * 5_000 + "%"])
def test_another_failure_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        MAX_FAILURE_RATE.kind.parse(text)


def read(variables: dict[str, str]) -> secret.Secret:
    return secret.read(settings.load(variables))


def test_the_secret_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")

    assert read({"BACKFILL_CRON_SECRET": "hunter2"}).header() == {"Authorization": "Bearer hunter2"}
    assert read({"BACKFILL_CRON_SECRET_FILE": str(file)}).header() == {"Authorization": "Bearer from-a-file"}


def test_its_representation_and_a_text_that_repeats_it_dont_show_it() -> None:
    found = read({"BACKFILL_CRON_SECRET": "hunter2/+"})

    assert "hunter2" not in repr(found)
    assert found.removed_from("Bearer hunter2/+ or hunter2%2F%2B") == "Bearer *** or ***"


@pytest.mark.parametrize("content", [b"", b"\n", b"hunter2\nhunter2", b"hun ter2", b"h\xc3\xbcnter2", b"\xff\xfe"])
def test_a_file_that_holds_no_secret_is_refused_without_repeating_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)

    with pytest.raises(ConfigurationError, match="BACKFILL_CRON_SECRET_FILE") as refused:
        read({"BACKFILL_CRON_SECRET_FILE": str(file)})

    assert "ter2" not in str(refused.value)


def test_no_secret_two_secrets_and_an_unreadable_file_are_refused(tmp_path: Path) -> None:
    for variables in (
        {},
        {"BACKFILL_CRON_SECRET": "x", "BACKFILL_CRON_SECRET_FILE": "y"},
        {"BACKFILL_CRON_SECRET_FILE": str(tmp_path / "gone")},
        {"BACKFILL_CRON_SECRET_FILE": str(tmp_path)},
    ):
        with pytest.raises(ConfigurationError, match="BACKFILL_CRON_SECRET"):
            read(variables)
