"""One Redis for cursors and messages, verified before it gets the password, with one configuration."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import fork_server
import pytest
import redis
from acceptance.commands import assert_refused, backfill_against
from acceptance.host import Host
from harness import Backfill, Worker
from tls import Certificate, TlsProxy, tls_in_front_of

from backfill_tasks.engine.model import MESSAGE_FORMAT
from sandbox.servers import Redis

PASSWORD = secrets.token_hex(8)


class WithSocket(Redis):
    """A Redis that also listens on a Unix socket."""

    @property
    def socket(self) -> Path:
        return self.home / "redis.sock"

    def _command(self) -> Sequence[str | Path]:
        return [*super()._command(), "--unixsocket", self.socket]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithSocket]:
    """A Redis that requires a password."""
    with WithSocket(tmp_path_factory.mktemp("closed"), password=PASSWORD) as started:
        yield started


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def proxy(closed: Redis, certificate: Certificate) -> Iterator[TlsProxy]:
    with tls_in_front_of(closed.port, certificate) as started:
        yield started


@pytest.fixture
def tls(inhabited: Host, proxy: TlsProxy, tmp_path: Path) -> Backfill:
    """The command on a Redis behind TLS."""
    return backfill_against(tmp_path, inhabited.url, f"rediss://:{PASSWORD}@127.0.0.1:{proxy.port}/0")


def with_options(tls: Backfill, **options: object) -> Backfill:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return tls.set(REDIS_URL=f"{tls.environment['REDIS_URL']}?{query}")


def celery(backfill: Backfill, *arguments: str) -> CompletedProcess[str]:
    """Run a program of the Celery app to its end."""
    return fork_server.run(
        [backfill.programs / "celery", "-A", "backfill_tasks", *arguments],
        cwd=backfill.directory,
        env=dict(backfill.environment),
        timeout=120,
    )


def databases(server: Redis) -> dict[str, object]:
    """Return the databases of a Redis that contain a key."""
    with redis.Redis(port=server.port, password=PASSWORD) as client:
        return dict(client.info("keyspace"))


class TestTls:
    def test_a_whole_run_goes_through_a_verified_connection(
        self, tls: Backfill, certificate: Certificate, proxy: TlsProxy
    ) -> None:
        verified = with_options(tls, ssl_cert_reqs="CERT_REQUIRED", ssl_ca_certs=certificate.file)
        worker = Worker.start(verified)
        try:
            assert verified.json("run", "--apply")["state"] == "complete"
            assert "certificate" not in verified("doctor").stdout
        finally:
            worker.stop()
        assert b"BRPOP" in proxy.received

    def test_a_server_that_can_t_be_verified_never_gets_the_password(self, tls: Backfill, proxy: TlsProxy) -> None:
        done = tls("run", "--apply")
        asked = celery(tls, "inspect", "ping")

        assert_refused(done, status=1)
        assert "certificate verify failed" in done.stderr
        assert asked.returncode != 0
        assert bytes(proxy.received) == b""

    def test_without_a_file_the_server_is_verified_by_the_system_s_cas(
        self, tls: Backfill, certificate: Certificate, proxy: TlsProxy
    ) -> None:
        done = tls.set(SSL_CERT_FILE=str(certificate.file))("run", "--apply", "--detach")

        assert "started" in done.stderr
        assert b"backfill" in proxy.received

    def test_verification_that_is_switched_off_works_and_the_doctor_says_so(self, tls: Backfill) -> None:
        blind = with_options(tls, ssl_cert_reqs="none")

        assert "started" in blind("run", "--apply", "--detach").stderr
        assert "the server's certificate is not verified" in blind("doctor").stdout


class TestOneRedis:
    @pytest.mark.parametrize(
        "form", ["unix://:{password}@{socket}?db=3", "redis://127.0.0.1:{port}/?db=3&password={password}"]
    )
    def test_cursors_and_messages_are_in_the_same_database(
        self, inhabited: Host, closed: WithSocket, tmp_path: Path, form: str
    ) -> None:
        with redis.Redis(port=closed.port, password=PASSWORD) as client:
            client.flushall()
        url = form.format(socket=closed.socket, port=closed.port, password=PASSWORD)

        done = backfill_against(tmp_path, inhabited.url, url)("run", "--apply", "--detach")

        assert done.returncode == 0, done.stderr
        assert databases(closed).keys() == {"db3"}
        with redis.Redis(port=closed.port, password=PASSWORD, db=3) as client:
            assert client.llen(f"backfill.v{MESSAGE_FORMAT}") == len(client.keys("backfill:cursor:*")) == 2

    @pytest.mark.parametrize("program", ["worker", "beat", "flower"])
    def test_a_second_broker_is_refused_in_one_line_by_every_program(self, alone: Backfill, program: str) -> None:
        lured = alone.set(CELERY_BROKER_URL=f"redis://:{PASSWORD}@127.0.0.1:1/0")

        assert_refused(lured("run", "--apply"))
        done = celery(lured, program)

        assert_refused(done)
        assert "REDIS_URL alone names the Redis: unset CELERY_BROKER_URL" in done.stderr
        assert PASSWORD not in done.stderr


def test_a_foreign_celeryconfig_in_the_working_directory_is_never_run(backfill: Backfill, worker: Worker) -> None:
    (backfill.directory / "celeryconfig.py").write_text(
        "import pathlib\npathlib.Path('it-ran').touch()\nbroker_url = 'redis://127.0.0.1:1/0'\n"
    )
    second = Worker.start(backfill)
    try:
        assert backfill.json("run", "--apply")["state"] == "complete"
    finally:
        second.stop()
    assert not (backfill.directory / "it-ran").exists()
