"""TLS parameters of DATABASE_URL against a real PostgreSQL behind TLS: Prisma's strict modes are strict."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from tls import Certificate, TlsProxy, tls_in_front_of

from backfill_tasks.engine.database import connect, parse_url, reachable
from backfill_tasks.errors import UnreachableError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a CA that didn't sign the server's certificate."""
    return Certificate.make(tmp_path_factory.mktemp("other"))


@pytest.fixture
def proxy(empty_database: str, certificate: Certificate) -> Iterator[TlsProxy]:
    with tls_in_front_of(urlsplit(empty_database).port or 5432, certificate, postgresql=True) as started:
        yield started


@pytest.fixture
def url(empty_database: str, proxy: TlsProxy) -> str:
    """Return the database's URL through TLS, without parameters."""
    parts = urlsplit(empty_database)
    return f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{proxy.port}{parts.path}?"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory without libpq's files, and clear libpq's environment variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def select(url: str) -> int:
    address = parse_url(url)
    with reachable(address), connect(address).begin() as connection:
        return int(connection.execute(text("SELECT 1")).scalar_one())


def refusal(url: str) -> str:
    with pytest.raises(UnreachableError) as refused:
        select(url)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("mode", ["", "&sslmode=prefer", "&sslmode=require", "&sslmode=verify-ca", "&ssl=true"])
def test_strict_accepts_a_server_signed_by_the_ca(url: str, certificate: Certificate, mode: str) -> None:
    assert select(f"{url}sslaccept=strict&sslcert={certificate.file}{mode}") == 1


@pytest.mark.parametrize("mode", ["", "&sslmode=prefer", "&sslmode=require", "&sslmode=verify-ca", "&ssl=true"])
def test_strict_refuses_a_server_not_signed_by_the_ca(url: str, other: Certificate, proxy: TlsProxy, mode: str) -> None:
    said = refusal(f"{url}sslaccept=strict&sslcert={other.file}{mode}")

    assert "certificate verify failed. No CA trusted here has signed the server's certificate" in said
    assert "name its CA's file, sslrootcert=FILE (Prisma: sslcert=FILE)" in said
    assert bytes(proxy.received) == b""


def test_strict_refuses_a_wrong_host_name(url: str, certificate: Certificate, proxy: TlsProxy) -> None:
    said = refusal(f"{url.replace('127.0.0.1', 'localhost')}sslaccept=strict&sslcert={certificate.file}")

    assert "does not match host name" in said
    assert "Use a host name that the server's certificate lists" in said
    assert bytes(proxy.received) == b""


@pytest.mark.parametrize("query", ["sslaccept=strict", "sslmode=verify-full", "sslrootcert=system"])
def test_system_cas_are_the_default(
    url: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    assert "certificate verify failed" in refusal(url + query)

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))

    assert select(url + query) == 1


def test_libpqs_own_ca_file_is_the_default_if_it_exists(url: str, certificate: Certificate, home: Path) -> None:
    (home / ".postgresql").mkdir()
    (home / ".postgresql/root.crt").write_text(certificate.file.read_text())

    assert select(f"{url}sslaccept=strict") == 1


def test_strict_refuses_a_server_without_tls(empty_database: str, certificate: Certificate) -> None:
    said = refusal(f"{empty_database}?sslaccept=strict&sslcert={certificate.file}")

    assert "server does not support SSL" in said
    assert "DATABASE_URL requires TLS: enable it on the server" in said


@pytest.mark.parametrize(
    "query",
    [
        "sslaccept=accept_invalid_certs",
        "sslaccept=accept_invalid_certs&sslmode=require",
        "sslmode=no-verify",
        "sslmode=require&uselibpqcompat=true",
        "ssl=no-verify",
        "ssl=1",
        "sslmode=require&sslidentity=client.p12&sslpassword=x",
    ],
)
def test_unverified_server_is_still_connected_to_with_tls(url: str, proxy: TlsProxy, query: str) -> None:
    assert select(url + query) == 1
    assert b"SELECT 1" in proxy.received


def test_ca_file_without_strict_verifies_nothing_as_in_prisma(url: str, other: Certificate) -> None:
    assert select(f"{url}sslmode=require&sslcert={other.file}") == 1


def test_libpq_parameters_still_verify(url: str, certificate: Certificate, other: Certificate) -> None:
    assert select(f"{url}sslmode=verify-full&sslrootcert={certificate.file}") == 1
    assert "certificate verify failed" in refusal(f"{url}sslmode=require&sslrootcert={other.file}")
