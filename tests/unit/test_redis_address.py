"""REDIS_URL is parsed once, for both clients."""

import ssl
from pathlib import Path

import pytest
from celery import Celery
from kombu.transport.redis import Channel
from redis import Redis

from backfill_tasks.redis_address import parse

SPELLINGS = [
    ("redis://cache:6380/3", 3, None, None),
    ("redis://cache:6380?db=3", 3, None, None),
    ("redis://cache:6380/3?db=3", 3, None, None),
    ("redis://cache:6380/?virtual_host=3", 3, None, None),
    ("redis://cache:6380", 0, None, None),
    ("redis://us%40er:p%2Fw@cache:6380/0", 0, "us@er", "p/w"),
    ("redis://:p%2Fw@cache:6380/0", 0, None, "p/w"),
    ("redis://cache:6380/0?password=p%2Fw", 0, None, "p/w"),
    ("redis://cache:6380/0?username=user&password=pw", 0, "user", "pw"),
    ("redis://[::1]:6380/2", 2, None, None),
    ("unix:///run/redis.sock?db=3", 3, None, None),
    ("unix://user:p%40w@/run/redis.sock?db=3", 3, "user", "p@w"),
    ("unix:///run/redis.sock", 0, None, None),
    ("redis+socket:///run/redis.sock?virtual_host=3", 3, None, None),
    ("redis+socket:///run/redis.sock?db=3&password=pw", 3, None, "pw"),
    ("rediss://user:pw@cache:6380/3", 3, "user", "pw"),
]

REFUSED = [
    ("redis://cache/1?db=2", "two databases"),
    ("redis://cache/?db=x", "database is not a number"),
    ("redis://cache/?db=1&db=1", "twice"),
    ("redis://:hunter2@cache/?password=other", "two different values for password"),
    ("redis://cache/?socket_timeout=3", "socket_timeout is not one of"),
    ("redis://cache/?hunter%202=3", "a parameter is not one of"),
    ("redis://cache/?ssl_cert_reqs=none", "write rediss://"),
    ("rediss://cache/?ssl_cert_reqs=maybe", "ssl_cert_reqs must be one of required"),
    ("rediss://cache/?ssl_check_hostname=maybe", "ssl_check_hostname must be one of"),
    ("rediss://cache/?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs names a file that this process doesn't find"),
    ("unix://run/redis.sock", "must look like"),
]


def of_both(url: str) -> list[dict[str, object]]:
    """Return the connection arguments of redis-py and of Celery's transport."""
    address = parse(url)
    cursors = Redis(**address.client_arguments).connection_pool
    app = Celery(broker=address.broker_url, set_as_current=False)
    app.conf.broker_use_ssl = address.broker_tls
    with app.connection_for_write() as connection:
        messages = Channel._connparams(_Unconnected(connection))  # noqa: SLF001  kombu's own parsing
    names = ("host", "port", "path", "db", "username", "password")
    return [
        {name: given.get(name) or None for name in names}
        | {
            name: given[name]
            for name in given
            if name.startswith("ssl_") and "ocsp" not in name and given[name] is not None
        }
        for given in (cursors.connection_kwargs, messages)
    ]


class _Unconnected:
    """Provide what kombu's channel reads its connection arguments from, without a server."""

    def __init__(self, connection: object) -> None:
        from kombu.transport.redis import Channel  # noqa: PLC0415

        self.connection = type("Connection", (), {"client": connection, "default_port": 6379})
        self._base = Channel

    def __getattr__(self, name: str) -> object:
        found = getattr(self._base, name)
        return found.__get__(self) if callable(found) and not isinstance(found, type) else found


class TestOneRedisForBoth:
    @pytest.mark.parametrize(("url", "database", "username", "password"), SPELLINGS)
    def test_cursors_and_messages_use_the_same_server_and_login(
        self, url: str, database: int, username: str | None, password: str | None
    ) -> None:
        cursors, messages = of_both(url)

        assert cursors == messages
        assert [cursors[name] or None for name in ("db", "username", "password")] == [
            database or None,
            username,
            password,
        ]

    @pytest.mark.parametrize(("url", "why"), REFUSED)
    def test_contradictory_or_unknown_parameter_is_refused(self, url: str, why: str) -> None:
        with pytest.raises(ValueError, match=why) as refused:
            parse(url)
        assert "hunter2" not in str(refused.value)
        assert "hunter 2" not in str(refused.value)


class TestTls:
    def test_both_clients_verify_the_server_by_default(self) -> None:
        cursors, messages = of_both("rediss://cache/0")

        assert cursors["ssl_cert_reqs"] == messages["ssl_cert_reqs"] == "required"
        assert cursors["ssl_check_hostname"] is messages["ssl_check_hostname"] is True

    @pytest.mark.parametrize("text", ["CERT_REQUIRED", "required", "Required", "optional", "CERT_OPTIONAL"])
    def test_both_libraries_spellings_are_accepted(self, text: str) -> None:
        tls = parse(f"rediss://cache/0?ssl_cert_reqs={text}").tls

        assert tls is not None
        assert tls.weakness is None

    @pytest.mark.parametrize("text", ["CERT_NONE", "none"])
    def test_verification_is_off_only_on_request_and_is_reported(self, text: str) -> None:
        tls = parse(f"rediss://cache/0?ssl_cert_reqs={text}").tls

        assert tls is not None
        assert tls.weakness == "the server's certificate is not verified (ssl_cert_reqs=none)"
        assert (tls.arguments["ssl_cert_reqs"], tls.arguments["ssl_check_hostname"]) == ("none", False)

    def test_tls_files_reach_both_clients(self, tmp_path: Path) -> None:
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        for name in names:
            (tmp_path / name).write_text(ssl.OPENSSL_VERSION)
        query = "&".join(f"{name}={tmp_path / name}" for name in names)

        cursors, messages = of_both(f"rediss://cache/0?{query}")

        assert cursors == messages
        assert [cursors[name] for name in names] == [str(tmp_path / name) for name in names]
