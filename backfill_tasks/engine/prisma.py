"""Translate the connection parameters of Prisma and node-postgres into libpq's.

Prisma's: https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments. node-postgres's: its package
pg-connection-string. docs/deployment.md has the table for operators; a test compares it with this module.
"""

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backfill_tasks.errors import ConfigurationError

_NO_POOL = "a process holds one connection, not a pool"
_SUPABASE = "it configures Supabase's client, not the server"

#: Parameters that have no effect here, each with the reason.
_NO_EFFECT: Mapping[str, str] = {
    "connection_limit": _NO_POOL,
    "pool_timeout": _NO_POOL,
    "max_connection_lifetime": _NO_POOL,
    "max_idle_connection_lifetime": _NO_POOL,
    "single_use_connections": _NO_POOL,
    "socket_timeout": "BACKFILL_STATEMENT_TIMEOUT_MS limits a statement",
    "statement_cache_size": "statements are never prepared",
    "encoding": "text is always UTF-8",
    "supa": _SUPABASE,
    "workaround": _SUPABASE,
    "uselibpqcompat": "sslmode always means what libpq says",
}
#: Parameters that libpq doesn't have and this module reads.
_READ_HERE = ("schema", "pgbouncer", "pool_mode", "ssl", "sslaccept", "sslidentity")

_LIBPQ_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_NO_VERIFY = "no-verify"
_STRICT, _ACCEPT = "strict", "accept_invalid_certs"

#: node-postgres's `ssl` as an sslmode. libpq reads ssl=true the same way.
_SSL: Mapping[str, str] = {
    "true": "require",
    "1": "require",
    "false": "disable",
    "0": "disable",
    _NO_VERIFY: _NO_VERIFY,
}

#: What the protection of each mode lacks. No mode means libpq's `prefer`.
_MAY_BE_PLAIN = "the connection may be unencrypted, and the server is not verified"
_WEAKNESS: Mapping[str | None, str] = {
    None: _MAY_BE_PLAIN,
    "allow": _MAY_BE_PLAIN,
    "prefer": _MAY_BE_PLAIN,
    "require": "encrypted, but the server is not verified",
    "verify-ca": "the server's CA is verified, but not its name",
}

#: Where operating systems keep the CAs they trust in one file: Debian, Red Hat, SUSE, Alpine and macOS.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_NAME_THE_CA = "name its CA's file, sslrootcert=FILE (Prisma: sslcert=FILE)"

#: Fragments of TLS errors from libpq, OpenSSL or the server, and the fix for each.
_ADVICE: Mapping[str, str] = {
    "certificate verify failed": f"no CA trusted here has signed the server's certificate: {_NAME_THE_CA}",
    "does not match host name": "use a host name that the server's certificate lists",
    "does not support SSL": "DATABASE_URL requires TLS: enable it on the server",
    "root certificate file": _NAME_THE_CA,
    "certificate required": "the server asks for a client's certificate: set sslcert=FILE&sslkey=FILE",
    "valid client certificate": "the server asks for a client's certificate: set sslcert=FILE&sslkey=FILE",
}


@dataclass(frozen=True)
class Note:
    """How a parameter was handled. `warning`: the connection is less protected than its URL may suggest."""

    parameter: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.parameter}: {self.text}"


@dataclass(frozen=True)
class Translation:
    """A URL's parameters in libpq's terms.

    `changes` replaces parameters by name; None drops one. `schema` is the host's; `pooled` is true behind a transaction
    pooler.
    """

    changes: Mapping[str, str | None]
    schema: str
    pooled: bool
    notes: Sequence[Note]


def translate(given: Mapping[str, str]) -> Translation:
    """Translate a URL's parameters. `changes` omits those that libpq reads unchanged.

    Raises:
        ConfigurationError: a parameter has an invalid value, contradicts another, or names a CA file that doesn't
            exist. The text repeats no value of the URL.
    """
    asked, accept = _asked_mode(given), _one_of("sslaccept", given, (_STRICT, _ACCEPT))
    _refuse_contradiction(asked, accept)
    mode = "verify-full" if accept == _STRICT else "require" if asked == _NO_VERIFY else asked
    authority = given["sslcert"] if _names_authority(given) else None
    wanted = {
        **dict.fromkeys((*_NO_EFFECT, *_READ_HERE)),
        "sslmode": mode,
        "sslrootcert": _root(given, mode, authority),
        "sslcert": None if authority else given.get("sslcert"),
        "sslpassword": given.get("sslpassword") if "sslkey" in given else None,
    }
    return Translation(
        changes={name: value for name, value in wanted.items() if value != given.get(name)},
        schema=given.get("schema") or "public",
        pooled=_is_pooled(given),
        notes=tuple(_notes(given, mode, accept, authority)),
    )


def _asked_mode(given: Mapping[str, str]) -> str | None:
    """Return the URL's sslmode, which may be `no-verify`, or None."""
    mode = _one_of("sslmode", given, (*_LIBPQ_MODES, _NO_VERIFY)) if given.get("sslmode") else None
    short = _one_of("ssl", given, tuple(_SSL))
    if mode and short and (mode == "disable") != (_SSL[short] == "disable"):
        raise ConfigurationError("DATABASE_URL: sslmode and ssl contradict each other: remove one")
    if not mode and not short and given.get("sslrootcert") == "system":
        return "verify-full"  # libpq's default for it
    return mode or (_SSL[short] if short else None)


def _refuse_contradiction(asked: str | None, accept: str | None) -> None:
    """Raise ConfigurationError if sslaccept requires a verified server and sslmode excludes it, or the reverse."""
    against = {_STRICT: ("disable", _NO_VERIFY), _ACCEPT: ("verify-ca", "verify-full")}
    if accept and asked in against[accept]:
        raise ConfigurationError(
            f"DATABASE_URL: sslaccept={accept} and sslmode={asked} contradict each other: remove one"
        )


def _names_authority(given: Mapping[str, str]) -> bool:
    """Return whether sslcert is Prisma's, a CA file; libpq's and node-postgres's, a client's, comes with its key."""
    return bool(given.get("sslcert")) and not any(name in given for name in ("sslkey", "sslrootcert", "sslcertmode"))


def _root(given: Mapping[str, str], mode: str | None, authority: str | None) -> str | None:
    """Return the file of CAs with which libpq verifies the server; None for libpq's own choice."""
    explicit = given.get("sslrootcert")
    if explicit and explicit != "system":
        # If the file is missing, libpq doesn't verify the server, even under an sslmode of `require` that names one.
        return _file("sslrootcert", explicit)
    if authority and mode in {"verify-ca", "verify-full"}:
        return _file("sslcert", authority)
    if mode == "verify-full" and (explicit or not _libpq_has_a_root()):
        return system_authorities()
    return explicit


def _file(name: str, path: str) -> str:
    if not Path(path).is_file():
        raise ConfigurationError(
            f"DATABASE_URL: {name} names a file that this process doesn't find: write an absolute path"
        )
    return path


def _libpq_has_a_root() -> bool:
    """Return whether libpq finds a CA file of this user by itself."""
    home = os.environ.get("HOME")
    return bool(os.environ.get("PGSSLROOTCERT") or (home and Path(home, ".postgresql", "root.crt").is_file()))


def system_authorities() -> str:
    """Return the file of CAs that this system trusts, or libpq's own keyword for them.

    `sslrootcert=system` finds none in psycopg's wheels: their OpenSSL looks in a directory of its build.
    """
    for path in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if path and Path(path).is_file():
            return path
    return "system"


def _is_pooled(given: Mapping[str, str]) -> bool:
    by_prisma = _one_of("pgbouncer", given, ("true", "false"))
    return by_prisma == "true" or _one_of("pool_mode", given, ("transaction", "session")) == "transaction"


def _one_of(name: str, given: Mapping[str, str], known: Sequence[str]) -> str | None:
    """Return a parameter's value, or None if it is missing. Raises ConfigurationError for an unknown value."""
    if name in given and given[name] not in known:
        raise ConfigurationError(f"DATABASE_URL: {name} must be one of {', '.join(known)}")
    return given.get(name)


def _notes(given: Mapping[str, str], mode: str | None, accept: str | None, authority: str | None) -> Iterator[Note]:
    """Yield what was translated or dropped, and where the server isn't verified."""
    for name, why in _NO_EFFECT.items():
        if name in given:
            yield Note(name, f"no effect here: {why}")
    if accept == _STRICT:
        yield Note("sslaccept", "the server is verified: sslmode=verify-full")
    elif named := next((name for name in ("sslaccept", "sslmode", "ssl") if given.get(name)), None):
        # Under `require`, libpq verifies the CA if it has a CA file.
        has_root = bool(given.get("sslrootcert")) or _libpq_has_a_root()
        effective = "verify-ca" if mode == "require" and has_root else mode
        if effective in _WEAKNESS:
            yield Note(named, f"{_WEAKNESS[effective]}: sslaccept=strict verifies it", warning=True)
    if authority and mode in {"verify-ca", "verify-full"}:
        yield Note("sslcert", "read as the CA's file, as Prisma does")
    elif authority:
        yield Note("sslcert", "the CA's file has no effect without sslaccept=strict, as in Prisma", warning=True)
    if "sslidentity" in given:
        yield Note(
            "sslidentity",
            "libpq can't read PKCS#12, so no client certificate is sent. If the server asks for one, convert the file"
            " with `openssl pkcs12` and write sslcert=FILE&sslkey=FILE, and sslrootcert=FILE for the CA",
            warning=True,
        )
    elif "sslpassword" in given and "sslkey" not in given:
        yield Note("sslpassword", "no effect here: it belongs to sslkey or sslidentity")


def advice(said: str) -> str:
    """Return the fix for a connection refused by TLS, as a sentence to append, or an empty string."""
    return next((f". {what[0].upper()}{what[1:]}" for symptom, what in _ADVICE.items() if symptom in said), "")
