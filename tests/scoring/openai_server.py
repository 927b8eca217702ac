"""An HTTP server on the loopback interface with the API of a model's provider, which also misbehaves.

It answers in the order of `script`, one entry for each request; when the script is empty, it answers well. It bills
like the worst tokenizer: one token for each byte of the texts and of the schema that it gets; `tokens` is another one.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Json = dict[str, Any]

#: A good answer.
GOOD = {"reasoning": "It fits.", "fitScore": 3, "intentScore": 2, "overallScore": 3}
_GOOD = json.dumps(GOOD)


@dataclass(frozen=True)
class Behaviour:
    """What the server does with one request.

    Attributes:
        status, headers: of the answer.
        says: the model's text, or a function of the request's body that returns it; None: `body` is the whole answer.
        body: the answer's body as it is.
        latency: the seconds before the answer.
        drip: the seconds between two bytes of it.
        cut: after how many bytes of the body the connection is closed; None: never.
        reset: whether the connection is reset (RST) instead of an answer.
        status_of_model: the status of a Responses answer, or None.
        usage: whether the answer says how many tokens it took.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    says: str | Callable[[Json], str] | None = _GOOD
    body: bytes = b""
    latency: float = 0.0
    drip: float = 0.0
    cut: int | None = None
    reset: bool = False
    completed: bool = True
    refusal: str | None = None
    usage: bool = True


def failing(status: int, code: str | None = None, param: str | None = None, **headers: str) -> Behaviour:
    """Return an error as the provider sends it. Its message repeats the request, as some servers do."""
    error = {"message": "ECHO", "type": code, "code": code, "param": param}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Behaviour(status=status, headers=named, says=None, body=json.dumps({"error": error}).encode())


@dataclass
class OpenAIServer:
    """The server. `requests`: the bodies that it got, by path. `billed`: tokens in and out of all requests."""

    default: Behaviour = field(default_factory=Behaviour)
    script: deque[Behaviour] = field(default_factory=deque)
    requests: list[tuple[str, Json]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    billed: list[int] = field(default_factory=lambda: [0, 0])
    tokens: Callable[[Json, str], tuple[int, int]] = lambda request, says: (
        _texts(request),
        len(says.encode("utf-8", "replace")),
    )
    answered: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *behaviours: Behaviour) -> None:
        """Behave like this in the next requests."""
        self.script.extend(behaviours)

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ")[1].removeprefix("/v1")
        named = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        sent = {name.lower(): value for name, value in named.items()}
        request = json.loads(await reader.readexactly(int(sent["content-length"])))
        self.arrivals.append(asyncio.get_running_loop().time())
        self.requests.append((path, request))
        self.keys.append(sent.get("authorization", ""))
        behaviour = self.script.popleft() if self.script else self.default
        body = self._body(path, request, behaviour)  # billed when it arrives, whatever becomes of the answer
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(behaviour.latency)
        finally:
            self.in_flight -= 1
        if behaviour.reset:
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        return await self._write(writer, behaviour, body)

    async def _write(self, writer: asyncio.StreamWriter, behaviour: Behaviour, body: bytes) -> bool:
        headers = {"content-type": "application/json", "content-length": str(len(body)), **behaviour.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {behaviour.status} x\r\n{lines}\r\n".encode())
        body = body[: behaviour.cut]
        if behaviour.drip:
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(behaviour.drip)
        else:
            writer.write(body)
        await writer.drain()
        self.answered += 1
        return behaviour.cut is None

    def _body(self, path: str, request: Json, behaviour: Behaviour) -> bytes:
        if behaviour.says is None:
            # Like servers that quote the request in their errors.
            return behaviour.body.replace(b"ECHO", json.dumps(json.dumps(request)).encode()[1:-1])
        says = behaviour.says(request) if callable(behaviour.says) else behaviour.says
        given, made = self.tokens(request, says)
        tokens = {"in": given, "out": made}
        self.billed[0] += tokens["in"]
        self.billed[1] += tokens["out"]
        return json.dumps(
            _chat(says, tokens, behaviour) if "chat" in path else _responses(says, tokens, behaviour)
        ).encode()


def _texts(request: Json) -> int:
    """Return the bytes of everything that a model reads."""
    messages = request.get("input") or request["messages"]
    schema = request.get("text") or request["response_format"]
    return sum(len((each["role"] + each["content"]).encode()) for each in messages) + len(json.dumps(schema))


def _responses(says: str, tokens: Json, behaviour: Behaviour) -> Json:
    part = (
        {"type": "refusal", "refusal": behaviour.refusal}
        if behaviour.refusal
        else {"type": "output_text", "text": says}
    )
    answer: Json = {
        "object": "response",
        "status": "completed" if behaviour.completed else "incomplete",
        "output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": [part]}],
    }
    if behaviour.usage:
        answer["usage"] = {"input_tokens": tokens["in"], "output_tokens": tokens["out"], "total_tokens": 0}
    return answer


def _chat(says: str, tokens: Json, behaviour: Behaviour) -> Json:
    message = {"role": "assistant", "content": says, "refusal": behaviour.refusal}
    answer: Json = {
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop" if behaviour.completed else "length", "message": message}],
    }
    if behaviour.usage:
        answer["usage"] = {"prompt_tokens": tokens["in"], "completion_tokens": tokens["out"], "total_tokens": 0}
    return answer


@contextmanager
def serving() -> Iterator[OpenAIServer]:
    """Serve from a thread while the block runs."""
    made, started = OpenAIServer(), threading.Event()
    stop: Callable[[], object] = started.clear

    async def serve() -> None:
        nonlocal stop
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        stop = partial(loop.call_soon_threadsafe, stopped.set)
        server = await asyncio.start_server(made.attend, "127.0.0.1", 0, limit=2**24)
        made.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopped.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield made
    finally:
        stop()
        thread.join(10)
