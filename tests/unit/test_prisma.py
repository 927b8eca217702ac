"""The URL parameters of Prisma and node-postgres: every row of the table in docs/deployment.md is true."""

import re
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from backfill_tasks.engine import prisma
from backfill_tasks.engine.database import parse_url
from backfill_tasks.errors import ConfigurationError

PAGE = Path(__file__).parents[2] / "docs/deployment.md"
ROWS = re.findall(
    r"^\| `([a-z_]+=[^`]*)` \| ([^|]*?) \| ?([^|]*?) ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
)

WITHOUT_PARAMETERS = parse_url("postgresql://user@host/app").conninfo
TRANSLATED_NAMES = {"sslaccept", "sslcert", "sslidentity", "sslpassword", "sslmode", "ssl", "schema", "pgbouncer"}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a folder with a CA file and the system's, named `system`, and without libpq's own files."""
    monkeypatch.chdir(tmp_path)
    for name in ("ca.pem", "system"):
        (tmp_path / name).touch()
    monkeypatch.setenv("SSL_CERT_FILE", "system")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)


def passed_on(query: str) -> dict[str, str]:
    """Return the connection parameters that libpq gets from a URL's query."""
    conninfo = parse_url(f"postgresql://user@host/app?{query}").conninfo
    return {name: value for name, value in conninfo.items() if name not in WITHOUT_PARAMETERS}


def refusal(query: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        parse_url(f"postgresql://user:hunter2@host/app?{query}")
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(("query", "outcome", "said"), ROWS)
def test_table_row_is_true(query: str, outcome: str, said: str) -> None:
    if outcome == "refused":
        assert refusal(query) == f"DATABASE_URL: {said}"
        return
    notes = parse_url(f"postgresql://user@host/app?{query}").notes
    assert passed_on(query) == dict(re.findall(r"`(\w+)=([^`]*)`", outcome))
    assert (outcome == "nothing") == (passed_on(query) == {})
    assert "; ".join(f"{'look: ' if note.warning else ''}{note.text}" for note in notes) == said


def test_table_has_every_translated_or_dropped_parameter() -> None:
    named = {name for query, _, _ in ROWS for name, _ in parse_qsl(query)}

    assert named >= TRANSLATED_NAMES | {"uselibpqcompat", "supa", "workaround", "pool_mode", "connection_limit"}
    assert len(ROWS) >= 40


@pytest.mark.parametrize("mode", ["", "allow", "prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("ca", ["", "&sslcert=ca.pem", "&sslrootcert=ca.pem", "&sslrootcert=system"])
@pytest.mark.parametrize("other", ["", "&ssl=true", "&uselibpqcompat=true", "&sslidentity=x&sslpassword=y"])
def test_strict_always_verifies(mode: str, ca: str, other: str) -> None:
    got = passed_on(f"sslaccept=strict{ca}{f'&sslmode={mode}' if mode else ''}{other}")

    assert got["sslmode"] == "verify-full"
    assert got["sslrootcert"] == ("ca.pem" if "ca.pem" in ca else "system")


def test_verified_connection_has_no_warning() -> None:
    for query in ("sslaccept=strict", "sslmode=verify-full", "sslmode=verify-full&connection_limit=1"):
        assert not any(note.warning for note in parse_url(f"postgresql://host/app?{query}").notes)


def test_libpqs_own_ca_file_precedes_the_systems(tmp_path: Path) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").touch()

    assert passed_on("sslaccept=strict") == {"sslmode": "verify-full"}
    assert "CA is verified, but not its name" in str(parse_url("postgresql://host/app?sslmode=require").notes[0])


def test_path_is_percent_decoded() -> None:
    Path("our ca+1.pem").touch()

    assert passed_on("sslaccept=strict&sslcert=our%20ca+1.pem")["sslrootcert"] == "our ca+1.pem"


@pytest.mark.parametrize(
    "query", ["sslaccept=strict&sslaccept=accept_invalid_certs", "sslmode=require&sslmode=disable"]
)
def test_parameter_with_two_values_is_refused(query: str) -> None:
    assert refusal(query).startswith(f"DATABASE_URL has {query.partition('=')[0]} twice, with two values")


def test_repeated_parameter_with_one_value_is_accepted() -> None:
    assert passed_on("sslmode=require&sslmode=require") == {"sslmode": "require"}


@pytest.mark.parametrize("query", ["sslmode=hunter2", "sslaccept=hunter2", "ssl=hunter2", "pgbouncer=hunter2"])
def test_refusal_repeats_no_value(query: str) -> None:
    assert "hunter2" not in refusal(query)


def test_transaction_pooler_has_two_spellings() -> None:
    def is_pooled(query: str) -> bool:
        return parse_url(f"postgresql://host/app?{query}").pooled

    assert is_pooled("pgbouncer=true")
    assert is_pooled("pool_mode=transaction")
    assert not is_pooled("pool_mode=session&pgbouncer=false")


def test_advice_is_given_for_tls_errors_only() -> None:
    assert prisma.advice("SSL error: certificate verify failed") != ""
    assert prisma.advice("Connection refused") == ""
