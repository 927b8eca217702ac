"""TLS in front of a real server: a certificate from openssl, and a proxy that terminates TLS."""

import asyncio
import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

#: PostgreSQL's SSLRequest: its length, and a code in place of the protocol version.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 that is its own authority."""

    file: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, address: str = "127.0.0.1") -> "Certificate":
        made = cls(directory / "server.crt", directory / "server.key")
        subject = ["-subj", "/CN=test", "-addext", f"subjectAltName=IP:{address}"]
        output = ["-keyout", made.key, "-out", made.file]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subprocess.run(
            ["openssl", "req", "-x509", "-days", "2", *key, *subject, *output], check=True, capture_output=True
        )
        return made


@dataclass
class TlsProxy:
    """The proxy's port, and the bytes that clients sent through it."""

    port: int
    received: bytearray = field(default_factory=bytearray)


@contextmanager
def tls_in_front_of(port: int, certificate: Certificate, *, postgresql: bool = False) -> Iterator[TlsProxy]:
    """Terminate TLS and forward to a local port. PostgreSQL's clients first send an SSLRequest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = TlsProxy(0)
    if postgresql:
        starting = asyncio.start_server(partial(_serve_when_asked, port, proxy, context), "127.0.0.1", 0)
    else:
        starting = asyncio.start_server(partial(_serve, port, proxy), "127.0.0.1", 0, ssl=context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result()
    proxy.port = server.sockets[0].getsockname()[1]
    yield proxy
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def _serve_when_asked(
    port: int, proxy: TlsProxy, context: ssl.SSLContext, client: asyncio.StreamReader, answers: asyncio.StreamWriter
) -> None:
    """Start TLS when a client sends an SSLRequest; hang up if it doesn't, or if it rejects the certificate."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        if await client.readexactly(8) == _SSL_REQUEST:
            answers.write(b"S")
            await answers.drain()
            await answers.start_tls(context)
            await _serve(port, proxy, client, answers)
    answers.close()


async def _serve(port: int, proxy: TlsProxy, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, seen: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65_536):
                if seen is not None:
                    seen += chunk
                target.write(chunk)
                await target.drain()
        target.close()

    await asyncio.gather(pass_on(client, writer, proxy.received), pass_on(reader, answers, None))
