"""Settings are parsed from text, kept within their ranges, and shown without secrets."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from backfill_tasks import settings
from backfill_tasks.errors import ConfigurationError

RANGES = {
    "BACKFILL_LANES": (1, 64),
    "BACKFILL_LOCK_TIMEOUT_MS": (1, 60_000),
    "BACKFILL_STATEMENT_TIMEOUT_MS": (100, 600_000),
    "BACKFILL_PAGE_RETRIES": (0, 1_000),
    "BACKFILL_STANDING_SECONDS": (1, 86_400),
    "BACKFILL_WATCHDOG_SECONDS": (1, 3_600),
    "BACKFILL_VISIBILITY_TIMEOUT": (60, 604_800),
    "BACKFILL_MAX_PENDING": (1, 100_000_000),
    "BACKFILL_TARGET_PAGE_MS": (0, 60_000),
    "BACKFILL_BUSY_LIMIT": (1, 10_000),
    "BACKFILL_OPENAI_MAX_OUTPUT_TOKENS": (16, 100_000),
    "BACKFILL_OPENAI_REQUESTS_PER_MINUTE": (1, 1_000_000),
    "BACKFILL_OPENAI_TOKENS_PER_MINUTE": (1_000, 1_000_000_000),
}

#: Settings that may be fractions.
REAL_RANGES = {
    "BACKFILL_JOBS_PER_MINUTE": ("0.001", "1000000"),
    "BACKFILL_MAX_LIVE_WAIT": ("0", "604800"),
    "BACKFILL_DRAIN_SECONDS": ("0.01", "86400"),
    "BACKFILL_DRAIN_LEAD_SECONDS": ("0", "3600"),
    "BACKFILL_PRESSURE_SECONDS": ("0.01", "600"),
    "BACKFILL_MAX_REPLICATION_LAG": ("0", "86400"),
    "BACKFILL_MAX_LOCK_WAITS": ("0", "10000"),
    "BACKFILL_MAX_ACTIVE_PERCENT": ("0", "100"),
    "BACKFILL_MAX_TRANSACTION_AGE": ("0", "604800"),
    "BACKFILL_MAX_PAGE_MS": ("1", "600000"),
    "BACKFILL_OPENAI_TIMEOUT": ("0.1", "60"),
}

#: Settings that `none` switches off. The others can't be switched off, or only by a number.
MAY_BE_OFF = {
    "BACKFILL_DRAIN_SECONDS",
    "BACKFILL_JOBS_PER_MINUTE",
    "BACKFILL_MAX_PENDING",
    "BACKFILL_MAX_REPLICATION_LAG",
    "BACKFILL_MAX_LOCK_WAITS",
    "BACKFILL_MAX_ACTIVE_PERCENT",
    "BACKFILL_MAX_TRANSACTION_AGE",
    "BACKFILL_MAX_PAGE_MS",
    "BACKFILL_BUSY_LIMIT",
    "BACKFILL_OPENAI_REQUESTS_PER_MINUTE",
    "BACKFILL_OPENAI_TOKENS_PER_MINUTE",
}


def read(loaded: settings.Settings, variable: str) -> Any:
    """Return what a variable has set: a setting, or the default of an option."""
    name = variable.removeprefix("BACKFILL_").lower()
    return loaded.defaults[name] if name in loaded.defaults else getattr(loaded, name)


SECRET_URLS = (
    "postgresql://user:hunter2@db.example.com:5432/app?schema=public",
    "postgresql://user:hunter2/@db.example.com:5432/app",
    "postgresql://user:hunter2?@db.example.com:5432/app",
    "postgresql://user:hunter2#@db.example.com:5432/app",
    "postgresql://user:p@hunter2@db.example.com:5432/app",
    "postgresql://user:%zzhunter2@db.example.com:5432/app",
    "postgresql://user:x@[hunter2/app",
    "postgresql://db.example.com:hunter2/app",
    "postgresql://db.example.com/app?password=hunter2",
    "redis://:hunter2@cache.example.com:6379/0",
    "hunter2",
    "",
)


def refusal(**variables: str) -> str:
    """Return the error for these variables, after checking that it is one line."""
    with pytest.raises(ConfigurationError) as refused:
        settings.load(variables)
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    return text


class TestReading:
    def test_every_variable_but_the_database_has_a_default(self) -> None:
        loaded = settings.load({})

        assert loaded.database_url is None
        assert (loaded.redis_url, loaded.queue) == ("redis://127.0.0.1:6379/0", "backfill")
        assert (read(loaded, "BACKFILL_LANES"), loaded.rate_limit) == (2, None)

    def test_the_missing_database_is_named_where_it_is_needed(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^DATABASE_URL is not set"):
            settings.load({}).required_database_url()

    def test_a_blank_value_means_the_default(self) -> None:
        assert settings.load({"BACKFILL_LANES": "  ", "DATABASE_URL": ""}) == settings.load({})

    def test_blanks_around_a_value_are_not_part_of_it(self) -> None:
        assert read(settings.load({"BACKFILL_LANES": " 3\n"}), "BACKFILL_LANES") == 3

    def test_every_variable_says_what_it_means(self) -> None:
        assert all(variable.meaning for variable in settings.VARIABLES)

    def test_all_urls_are_secret(self) -> None:
        assert {variable.name for variable in settings.VARIABLES if variable.secret} == {
            "DATABASE_URL",
            "BACKFILL_REPLICA_URL",
            "REDIS_URL",
            "BACKFILL_METRICS_TOKEN",
            "OPENAI_API_KEY",
        }

    def test_nothing_is_shown_of_a_secret_that_is_no_url(self) -> None:
        (variable,) = (each for each in settings.VARIABLES if each.name == "BACKFILL_METRICS_TOKEN")

        assert [variable.shown(given) for given in ("ops:hidden", "ops://hidden", "")] == ["***", "***", "(not set)"]


class TestNumbers:
    @pytest.mark.parametrize("name", RANGES)
    @pytest.mark.parametrize("end", [0, 1])
    def test_both_ends_of_a_range_are_allowed(self, name: str, end: int) -> None:
        value = RANGES[name][end]

        loaded = settings.load({name: str(value)})

        assert read(loaded, name) == value

    @pytest.mark.parametrize("name", RANGES)
    def test_what_lies_outside_a_range_is_refused(self, name: str) -> None:
        least, most = RANGES[name]

        assert name in refusal(**{name: str(least - 1)})
        assert name in refusal(**{name: str(most + 1)})

    @pytest.mark.parametrize("value", ["abc", "-5", "+5", "1.5", "1e3", "1_000", "0x10", "٣", "²", "1 2", "9" * 5_000])
    def test_what_is_no_whole_number_is_refused(self, value: str) -> None:
        assert refusal(BACKFILL_LANES=value).startswith("BACKFILL_LANES: ")


class TestEveryNumber:
    def test_the_ranges_above_name_every_numeric_setting(self) -> None:
        numeric = {each.name for each in settings.VARIABLES if _is_numeric(each)}

        assert numeric == {*RANGES, *REAL_RANGES}

    @pytest.mark.parametrize("value", ["abc", "-1", "9" * 30, "9" * 5_000, "1e400", "nan", "\x1b[31m1", "\udce9"])
    @pytest.mark.parametrize("name", [*RANGES, *REAL_RANGES])
    def test_a_value_that_is_no_number_in_range_is_refused_in_one_short_line(self, name: str, value: str) -> None:
        said = refusal(**{name: value})

        assert said.startswith(f"{name}: ")
        assert len(said) < 200


def _is_numeric(variable: settings.Variable) -> bool:
    """Return whether the parser returns numbers."""
    return variable.default is not None and any(
        isinstance(_parsed(variable, each), int | float) for each in (variable.default, "1", "100")
    )


def _parsed(variable: settings.Variable, text: str) -> object:
    try:
        return variable.parse(text)
    except ValueError:
        return None


class TestFractions:
    @pytest.mark.parametrize("name", REAL_RANGES)
    @pytest.mark.parametrize("end", [0, 1])
    def test_both_ends_of_a_range_are_allowed(self, name: str, end: int) -> None:
        value = REAL_RANGES[name][end]

        loaded = settings.load({name: value})

        assert read(loaded, name) == float(value)

    @pytest.mark.parametrize("name", REAL_RANGES)
    def test_what_lies_outside_a_range_is_refused(self, name: str) -> None:
        least, most = REAL_RANGES[name]

        assert name in refusal(**{name: f"-{least}" if least == "0" else "0.0001"})
        assert name in refusal(**{name: f"{most}.5"})

    def test_a_part_of_a_job_a_minute_may_be_asked_for(self) -> None:
        assert read(settings.load({"BACKFILL_JOBS_PER_MINUTE": "0.5"}), "BACKFILL_JOBS_PER_MINUTE") == 0.5

    @pytest.mark.parametrize("value", ["nan", "inf", "1e3", "1_000", "+1", "-1", ".5", "1.", "1,5", "٣", "9" * 5_000])
    def test_what_is_no_number_is_refused(self, value: str) -> None:
        assert refusal(BACKFILL_JOBS_PER_MINUTE=value).startswith("BACKFILL_JOBS_PER_MINUTE: ")


class TestOff:
    @pytest.mark.parametrize("name", sorted(MAY_BE_OFF))
    def test_none_takes_a_bound_away(self, name: str) -> None:
        assert read(settings.load({name: "none"}), name) is None

    @pytest.mark.parametrize("name", sorted({*RANGES, *REAL_RANGES} - MAY_BE_OFF))
    def test_it_means_nothing_where_a_number_must_be(self, name: str) -> None:
        assert refusal(**{name: "none"}).startswith(f"{name}: ")

    @pytest.mark.parametrize("name", sorted(MAY_BE_OFF))
    def test_a_refusal_says_that_it_may_be_written(self, name: str) -> None:
        assert refusal(**{name: "off"}).endswith(", or none")


class TestRateLimit:
    @pytest.mark.parametrize("value", ["20/s", "600/m", "36000/h", "0.5/s", "20"])
    def test_celerys_own_words_are_handed_on(self, value: str) -> None:
        assert settings.load({"BACKFILL_RATE_LIMIT": value}).rate_limit == value

    @pytest.mark.parametrize("value", ["", "none"])
    def test_none_means_no_limit(self, value: str) -> None:
        assert settings.load({"BACKFILL_RATE_LIMIT": value}).rate_limit is None

    @pytest.mark.parametrize(
        "value", ["fast", "20/d", "20 / s", "-1/s", "0/s", "0.0", "/s", "1e3/s", "inf/s", "٣/s", "20/s\n20/m"]
    )
    def test_anything_else_is_refused(self, value: str) -> None:
        assert refusal(BACKFILL_RATE_LIMIT=value).startswith("BACKFILL_RATE_LIMIT: ")


class TestQueue:
    @pytest.mark.parametrize("name", ["backfill", "Staging-2", "a.b_c", "7"])
    def test_letters_digits_dots_hyphens_and_underscores_make_a_name(self, name: str) -> None:
        assert settings.load({"BACKFILL_QUEUE": name}).queue == name

    @pytest.mark.parametrize("name", ["a b", "a:b", "a/b", "a,b", "*", "größe", "a\nb", "q" * 101])
    def test_anything_else_is_refused(self, name: str) -> None:
        assert refusal(BACKFILL_QUEUE=name).startswith("BACKFILL_QUEUE: ")


class TestSecondConfiguration:
    @pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
    def test_another_broker_than_redis_url_is_refused_without_its_password(self, name: str) -> None:
        said = refusal(**{name: "redis://:hunter2@other:6379/0"})

        assert said == f"{name} is set, and Celery would use it, but REDIS_URL alone names the Redis: unset {name}"

    def test_the_same_broker_is_accepted(self) -> None:
        same = "redis://cache.example.com:6379/0"

        assert settings.load({"REDIS_URL": same, "CELERY_BROKER_URL": same}).redis_url == same

    @pytest.mark.parametrize("name", ["CELERY_RESULT_BACKEND", "CELERY_CONFIG_MODULE", "CELERY_LOADER"])
    def test_another_configuration_is_refused(self, name: str) -> None:
        assert "celeryconfig.py alone configures Celery" in refusal(**{name: "theirs"})


class TestRedisUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "redis://127.0.0.1",
            "redis://127.0.0.1:6379/",
            "redis://127.0.0.1:6379/15",
            "redis://:p%40ss@cache.example.com:6380/0",
            "redis://user:password@cache.example.com/1",
            "rediss://cache.example.com:6380/0",
            "redis://[::1]:6379/0",
            "unix:///run/redis.sock",
        ],
    )
    def test_the_address_of_a_redis_is_taken_as_it_is(self, url: str) -> None:
        assert settings.load({"REDIS_URL": url}).redis_url == url

    @pytest.mark.parametrize(
        "url",
        [
            "127.0.0.1:6379",
            "http://127.0.0.1:6379/0",
            "redis://",
            "redis:///0",
            "redis://127.0.0.1:port/0",
            "redis://127.0.0.1:99999/0",
            "redis://127.0.0.1:6379/abc",
            "redis://127.0.0.1:6379/-1",
            "redis://127.0.0.1:6379/0/1",
            "redis://127.0.0.1:6379/²",
            "redis://[::1:6379/0",
            "unix://",
        ],
    )
    def test_anything_else_is_refused_before_it_is_used(self, url: str) -> None:
        assert refusal(REDIS_URL=url).startswith("REDIS_URL: ")

    @pytest.mark.parametrize("password", ["hun/ter2", "hun@ter2", "hun#ter2", "hun?ter2", "hunter2/"])
    def test_a_password_that_is_not_encoded_is_not_repeated(self, password: str) -> None:
        said = refusal(REDIS_URL=f"redis://:{password}@127.0.0.1:6379/0")

        assert "hun" not in said
        assert "percent-encode" in said


class TestUnknownNames:
    def test_a_slip_of_the_pen_is_refused_and_the_nearest_name_told(self) -> None:
        said = refusal(BACKFILL_LANE="4")

        assert "BACKFILL_LANE." in said
        assert "BACKFILL_LANES" in said

    def test_what_is_not_ours_is_left_alone(self) -> None:
        assert settings.load({"PATH": "/bin", "MY_BACKFILL_LANES": "x"}) == settings.load({})


class TestFile:
    @pytest.fixture(autouse=True)
    def _no_variable_of_the_caller(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in os.environ:
            if name.startswith("BACKFILL_"):
                monkeypatch.delenv(name)

    def test_it_is_read_from_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("# ours\nexport BACKFILL_LANES='5'\n")

        assert read(settings.load(), "BACKFILL_LANES") == 5

    def test_the_environment_goes_before_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BACKFILL_LANES", "7")
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("BACKFILL_LANES=5\n")

        assert read(settings.load(), "BACKFILL_LANES") == 7

    def test_it_may_be_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BACKFILL_LANES", "7")
        monkeypatch.chdir(tmp_path)

        assert read(settings.load(), "BACKFILL_LANES") == 7

    def test_a_line_that_can_not_be_read_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("BACKFILL_LANES=5\n\nDATABASE_URL='hunter2\n")

        with pytest.raises(ConfigurationError, match=r"^line 3 of the file \.env") as refused:
            settings.load()
        assert "hunter2" not in str(refused.value)

    def test_other_than_utf8_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_bytes(b"DATABASE_URL=postgresql://\xff/app\n")

        with pytest.raises(ConfigurationError, match="UTF-8"):
            settings.load()

    def test_a_folder_of_its_name_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").mkdir()

        with pytest.raises(ConfigurationError, match=r"\.env"):
            settings.load()


class TestMasking:
    def test_who_and_where_stay_readable(self) -> None:
        shown = settings.masked("postgresql://user:hunter2@db.example.com:5432/app?schema=public&sslpassword=x")

        assert shown == "postgresql://user:***@db.example.com:5432/app?***"

    def test_a_url_without_a_password_is_shown_as_it_is(self) -> None:
        assert settings.masked("redis://127.0.0.1:6379/0") == "redis://127.0.0.1:6379/0"

    @pytest.mark.parametrize("url", SECRET_URLS)
    def test_no_part_of_a_password_is_ever_shown(self, url: str) -> None:
        assert "hunter2" not in settings.masked(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:s3cret",
        "postgresql:/s3cret",
        "postgresql//user:s3cret@host/db",
        "redis:s3cret",
        "redis://host/s3cret",
        "s3cret",
    ],
)
def test_a_url_with_a_part_out_of_place_is_masked_whole(url: str) -> None:
    assert settings.masked(url) == "***"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:***@db.example.com:5432/app",
        "postgresql://user:***@one:5432,two:5432/app",
        "postgresql://user:***@[2001:db8::1]:5432/app",
        "postgresql://***@postgres/app",
        "postgresql://db/app",
        "postgresql://localhost",
        "redis://redis:6379/0",
        "redis://cache.example.com",
        "rediss://:***@cache.example.com:6380/0?***",
        "redis://[::1]:6379/0",
        "redis://127.0.0.1",
        "unix:///run/redis.sock?***",
        "unix://user:***@/run/redis/redis.sock",
    ],
)
def test_what_is_no_secret_stays_readable(url: str) -> None:
    assert settings.masked(url.replace("user:***", "user:s3cret").replace("***", "s3cret")) == url


#: Where a password may appear by mistake, and what is shown instead.
MISPLACED = {
    "{scheme}:{secret}": "",
    "{scheme}:/{secret}": "",
    "{scheme}//{secret}": "",
    "{scheme}://{secret}": "{scheme}://***",
    "{scheme}://{secret}/": "{scheme}://***",
    "{scheme}://{secret}?db=0": "{scheme}://***",
    "{scheme}:///{secret}": "{scheme}://***",
    "{scheme}://{secret}@db.example.com:5432/0": "{scheme}://***@db.example.com:5432/0",
    "{scheme}://user:{secret}@db.example.com:5432/0": "{scheme}://user:***@db.example.com:5432/0",
    "{scheme}://:{secret}@db.example.com/0": "{scheme}://:***@db.example.com/0",
    "{scheme}://db.example.com:{secret}": "",
    "{scheme}://db.example.com/0?password={secret}": "{scheme}://db.example.com/0?***",
    "{scheme}://db.example.com/0#{secret}": "",
    "{secret}": "",
}


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "redis", "rediss", "unix"])
@pytest.mark.parametrize("form", MISPLACED)
@effort(deadline=None)
@given(secret=st.text(st.characters(exclude_categories=["Cs"], exclude_characters=".:/?#@[]"), min_size=6))
def test_a_password_is_never_shown_wherever_it_stands(scheme: str, form: str, secret: str) -> None:
    shown = settings.masked(form.format(scheme=scheme, secret=secret))

    assert shown in {"***", f"{scheme}://***", MISPLACED[form].format(scheme=scheme)}


@effort(deadline=None)
@given(secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_password_that_is_not_encoded_is_never_shown(secret: str) -> None:
    shown = settings.masked(f"postgresql://user:{secret}@db.example.com:5432/app")

    assert shown in {"***", "postgresql://***", "postgresql://user:***@db.example.com:5432/app"}
