"""Parse REDIS_URL once for both clients: redis-py (the cursors) and kombu (the messages).

The two libraries interpret the same URL differently: the database of a socket, `?db=` and `?password=`, and whether
`rediss://` verifies the server. Neither gets the URL: both get what is parsed here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

_FORM = (
    "it must look like redis://:password@host:6379/0 (or rediss://…, unix:///path). In the password, percent-encode the"
    " characters / ? # @ % and :"
)

#: The known schemes, including kombu's own names.
_SCHEMES: Mapping[str, str] = MappingProxyType(
    {"redis": "redis", "rediss": "rediss", "unix": "unix", "redis+socket": "unix", "socket": "unix"}
)

#: The known parameters. `db` is redis-py's and `virtual_host` kombu's name for the database.
_LOGIN = ("username", "password")
_DATABASE = ("db", "virtual_host")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_path", "ssl_password", *_FILES)

_VERIFY: Mapping[str, bool] = MappingProxyType(
    {
        "required": True,
        "cert_required": True,
        # For a client, Python's ssl module verifies just as strictly.
        "optional": True,
        "cert_optional": True,
        "none": False,
        "cert_none": False,
    }
)
_YES_OR_NO: Mapping[str, bool] = MappingProxyType({"true": True, "1": True, "false": False, "0": False})


@dataclass(frozen=True)
class Tls:
    """How the server is verified, and the files for it, by the names that redis-py and kombu share."""

    verify: bool
    check_hostname: bool
    files: Mapping[str, str]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that redis-py and kombu share."""
        return {
            "ssl_cert_reqs": "required" if self.verify else "none",
            "ssl_check_hostname": self.verify and self.check_hostname,
            **self.files,
        }

    @property
    def weakness(self) -> str | None:
        """What the URL switches off, or None."""
        if not self.verify:
            return "the server's certificate is not verified (ssl_cert_reqs=none)"
        return None if self.check_hostname else "the name in the server's certificate is not checked"


@dataclass(frozen=True)
class RedisAddress:
    """The address of Redis and its login. `path`: of its socket, instead of host and port."""

    host: str | None
    port: int
    path: str | None
    database: int
    username: str | None
    password: str | None
    tls: Tls | None

    @property
    def client_arguments(self) -> dict[str, Any]:
        """The arguments of `redis.Redis`."""
        where: dict[str, Any] = {"unix_socket_path": self.path} if self.path else {"host": self.host, "port": self.port}
        tls = {"ssl": True, **self.tls.arguments} if self.tls else {}
        return {**where, "db": self.database, "username": self.username, "password": self.password, **tls}

    @property
    def broker_url(self) -> str:
        """The URL for kombu, in the only form that it parses correctly. Use it with `broker_tls`."""
        login = ""
        if self.username or self.password:
            password = f":{quote(self.password, safe='')}" if self.password else ""
            login = f"{quote(self.username or '', safe='')}{password}@"
        if self.path:
            return f"redis+socket://{login}{quote(self.path)}?virtual_host={self.database}"
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{'rediss' if self.tls else 'redis'}://{login}{host}:{self.port}/{self.database}"

    @property
    def broker_tls(self) -> dict[str, Any] | None:
        """Celery's `broker_use_ssl`."""
        return self.tls.arguments if self.tls else None


def parse(url: str) -> RedisAddress:
    """Parse a Redis URL.

    Raises:
        ValueError: it is invalid, or sets a parameter twice. The text repeats no value: it may be part of a password.
    """
    parts, port = _split(url)
    scheme = _SCHEMES[parts.scheme]
    given = _parameters(parts.query)
    tls = {name: given[name] for name in _TLS if name in given}
    if tls and scheme != "rediss":
        raise ValueError(f"{next(iter(tls))} needs TLS: write rediss://")
    return RedisAddress(
        host=unquote(parts.hostname or "") or None,
        port=port or 6379,
        path=unquote(parts.path) if scheme == "unix" else None,
        database=_database(parts.path.strip("/") if scheme != "unix" else "", given),
        username=_one("username", unquote(parts.username or ""), given.get("username", "")),
        password=_one("password", unquote(parts.password or ""), given.get("password", "")),
        tls=_tls(tls) if scheme == "rediss" else None,
    )


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_FORM) from None
    socket = _SCHEMES.get(parts.scheme) == "unix"
    database = re.fullmatch(r"/?|/\d+", parts.path, re.ASCII)
    if (
        parts.scheme not in _SCHEMES
        or re.search(r"%(?![0-9A-Fa-f]{2})", url)
        or parts.fragment
        or parts.netloc.count("@") > 1
        or (parts.hostname or not parts.path.strip("/") if socket else not (parts.hostname and database))
    ):
        raise ValueError(_FORM)
    return parts, port


def _parameters(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ValueError("it sets a parameter twice: remove one")
    for name in given:
        if name not in {*_LOGIN, *_DATABASE, *_TLS}:
            shown = name if re.fullmatch(r"[a-z_]{1,40}", name) else "a parameter"
            raise ValueError(f"{shown} is not one of {', '.join((*_LOGIN, *_DATABASE, *_TLS))}: remove it")
    return given


def _database(in_path: str, given: Mapping[str, str]) -> int:
    found = {text for text in (in_path, *(given.get(name, "") for name in _DATABASE)) if text}
    if len(found) > 1:
        raise ValueError("it names two databases: write /0 after the port, or ?db=0, not both")
    text = found.pop() if found else "0"
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII):
        raise ValueError("its database is not a number")
    return int(text)


def _one(name: str, in_front: str, in_query: str) -> str | None:
    if in_front and in_query and in_front != in_query:
        raise ValueError(f"it has two different values for {name}: remove one")
    return in_front or in_query or None


def _tls(given: Mapping[str, str]) -> Tls:
    files = {name: value for name, value in given.items() if name not in {"ssl_cert_reqs", "ssl_check_hostname"}}
    for name in _FILES:
        if name in files and not Path(files[name]).is_file():
            raise ValueError(f"{name} names a file that this process doesn't find")
    return Tls(
        verify=_choice("ssl_cert_reqs", given, _VERIFY),
        check_hostname=_choice("ssl_check_hostname", given, _YES_OR_NO),
        files=MappingProxyType(files),
    )


def _choice(name: str, given: Mapping[str, str], known: Mapping[str, bool]) -> bool:
    """Return a parameter's value; if it is missing, the secure one."""
    text = given.get(name, "").lower()
    if name in given and text not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}")
    return known[text] if name in given else True
