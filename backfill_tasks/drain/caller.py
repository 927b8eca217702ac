"""One call of the host's cron route, bounded in time and size whatever the other side does."""

import asyncio
import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

from backfill_tasks.drain.answers import Answer, Response, parse, printable
from backfill_tasks.drain.secret import Secret

#: The most bytes read of an answer. The runner's own is below 1,000.
_MOST_BYTES = 65_536

#: How long the connection may take, in seconds.
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Caller:
    """Calls the host's cron route.

    A read time-out alone would not end a call whose answer arrives byte by byte. Redirects aren't followed: the secret
    would go with them.

    Attributes:
        secret: the secret that proves the caller to the host.
        seconds: the longest that a call takes, from looking up the name to the last byte.
        only_host: the only host that gets the secret; None: that of the URL, whichever it is.
    """

    secret: Secret
    seconds: float
    only_host: str | None = None

    def call(self, url: str) -> Answer:
        """Call the route and return its answer. Never raises, and no text contains the secret."""
        # The URL comes from the ledger: whoever can write there could have the secret sent elsewhere.
        if self.only_host is not None and urlsplit(url).hostname != self.only_host.lower():
            return Answer("other host", f"BACKFILL_CRON_HOST is {printable(self.only_host)}")
        try:
            response = asyncio.run(self._response(url))
        except TimeoutError:
            return Answer("timed out", f"no answer within {self.seconds:g} s")
        except Exception as error:  # noqa: BLE001  whatever the other side does, the drain goes on
            said = self.secret.removed_from(str(error))
            return Answer("unreachable", printable(f"{type(error).__name__}: {said}" if said else type(error).__name__))
        return parse(response)

    async def _response(self, url: str) -> Response:
        """Return the response, with no more of its body than is worth reading.

        Raises:
            TimeoutError: it wasn't complete in time.
            httpx2.HTTPError: there is none.
        """
        # Slow to import, and a worker without a drain never needs it.
        import httpx2  # noqa: PLC0415

        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs each request
        limits = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
        headers = {**self.secret.header(), "Accept": "application/json", "Accept-Encoding": "identity"}
        # A proxy from the environment would get the secret in clear if the URL is http://.
        trusts_proxies = url.startswith("https://")
        async with (
            asyncio.timeout(self.seconds),
            httpx2.AsyncClient(timeout=limits, headers=headers, trust_env=trusts_proxies) as client,
            client.stream("GET", url) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
        text = self.secret.removed_from(bytes(body[:_MOST_BYTES]).decode(errors="replace"))
        return Response(response.status_code, response.headers, text.encode(), cut=len(body) > _MOST_BYTES)
