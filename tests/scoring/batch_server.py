"""A provider's Files and Batches APIs on the loopback interface, which records every request that is paid for."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scoring.openai_server import GOOD, Behaviour, _responses, _texts

Json = dict[str, Any]

Answer = tuple[int, Json | bytes]
_UNKNOWN: Answer = 404, {"error": {"message": "x", "code": "not_found"}}

#: What becomes of one request: its line of the output, and whether it was paid for.
Fate = Callable[[int, Json], tuple[Json | None, bool]]


def answered(number: int, request: Json) -> tuple[Json | None, bool]:
    """Answer well."""
    tokens = {"in": _texts(request["body"]), "out": 50}
    body = _responses(json.dumps(GOOD), tokens, Behaviour())
    return {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}, True


def expired(number: int, request: Json) -> tuple[Json | None, bool]:
    """Don't get to it within 24 hours."""
    return {"custom_id": request["custom_id"], "response": None, "error": {"code": "batch_expired"}}, False


def refused(number: int, request: Json) -> tuple[Json | None, bool]:
    """Refuse it, and repeat it in the error."""
    body = {"error": {"message": json.dumps(request), "code": "invalid"}}
    return {"custom_id": request["custom_id"], "response": {"status_code": 400, "body": body}, "error": None}, False


def dropped(number: int, request: Json) -> tuple[Json | None, bool]:
    """Say nothing about it."""
    return None, False


@dataclass
class BatchServer:
    """The provider. Batches stay in progress until `work`."""

    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    batches: dict[str, Json] = field(default_factory=dict)
    paid: list[str] = field(default_factory=list)
    asked_for: set[str] = field(default_factory=set)
    fate: Fate = answered
    verdict: str = "completed"
    failing: dict[str, int] = field(default_factory=dict)
    latency: Callable[[], float] = lambda: 0.0
    port: int = 0
    numbers: Iterator[int] = field(default_factory=count)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def work(self) -> None:
        """Work off every batch that is in progress."""
        with self.lock:
            for each in self.batches.values():
                if each["status"] == "in_progress":
                    self._work(each)

    def _work(self, batch: Json) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]][1].splitlines()]
        good: list[Json] = []
        bad: list[Json] = []
        for number, request in enumerate(lines):
            line, paid = self.fate(number, request)
            if paid:
                self.paid.append(request["custom_id"])
            if line is not None:
                (good if (line["response"] or {}).get("status_code") == 200 else bad).append(line)
        for name, listed in (("output_file_id", good), ("error_file_id", bad)):
            if listed:
                batch[name] = self.add("results.jsonl", "\n".join(map(json.dumps, reversed(listed))).encode())
        batch["status"] = self.verdict

    def add(self, name: str, content: bytes) -> str:
        file_id = f"file-{next(self.numbers)}"
        self.files[file_id] = (name, content)
        return file_id

    def answer(self, method: str, path: str, query: Json, body: bytes, boundary: str) -> Answer:
        """Return the status and the body of an answer."""
        step = f"{method} {re.sub('(file|batch)-[^/]+', 'ID', path)}"
        if step in self.failing:
            return self.failing[step], {"error": {"message": "x"}}
        with self.lock:
            return self._known(method, path.split("/")[1:], query, body, boundary) or _UNKNOWN

    def _known(self, method: str, parts: list[str], query: Json, body: bytes, boundary: str) -> Answer | None:
        """Return the answer for what there is."""
        answer: Answer | None = None
        match method, parts:
            case "POST", ["files"]:
                answer = 200, {"id": self.add(*_part(body, boundary)), "object": "file"}
            case "GET", ["files"]:
                answer = 200, {"data": [{"id": each, "filename": name} for each, (name, _) in self.files.items()]}
            case "GET", ["files", file_id, "content"] if file_id in self.files:
                answer = 200, self.files[file_id][1]
            case "DELETE", ["files", file_id] if self.files.pop(file_id, None):
                answer = 200, {"id": file_id, "deleted": True}
            case "POST", ["batches"]:
                answer = self._create(json.loads(body))
            case "GET", ["batches"]:
                answer = self._page(query)
            case "GET", ["batches", batch_id] if batch_id in self.batches:
                self.asked_for.add(batch_id)
                answer = 200, self.batches[batch_id]
            case "POST", ["batches", batch_id, "cancel"] if batch_id in self.batches:
                self.batches[batch_id]["status"] = "cancelled"
                answer = 200, self.batches[batch_id]
        return answer

    def _create(self, asked: Json) -> tuple[int, Json]:
        if asked["input_file_id"] not in self.files:
            return 400, {"error": {"message": "x", "code": "invalid_file"}}
        made = {**asked, "id": f"batch-{next(self.numbers)}", "object": "batch", "status": "in_progress"}
        self.batches[made["id"]] = made
        return 200, made

    def _page(self, query: Json) -> tuple[int, Json]:
        newest = list(reversed(self.batches.values()))
        after = next((n for n, each in enumerate(newest, 1) if each["id"] == query.get("after", [""])[0]), 0)
        page = newest[after : after + 2]  # small pages, whatever the limit
        return 200, {"data": page, "has_more": after + 2 < len(newest)}


def _part(body: bytes, boundary: str) -> tuple[str, bytes]:
    """Return the name and content of the file in a multipart body."""
    for part in body.split(f"--{boundary}".encode()):
        head, _, content = part.partition(b"\r\n\r\n")
        found = re.search(rb'filename="([^"]+)"', head)
        if found:
            return found[1].decode(), content.removesuffix(b"\r\n")
    raise ValueError("no file")


@contextmanager
def serving_batches() -> Iterator[BatchServer]:
    """Serve from threads while the block runs."""
    made = BatchServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            time.sleep(made.latency())
            _, _, boundary = (self.headers.get("content-type") or "").partition("boundary=")
            status, answer = made.answer(
                self.command, url.path.removeprefix("/v1"), parse_qs(url.query), body, boundary.strip('"')
            )
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            time.sleep(made.latency())
            with suppress(ConnectionError):  # whoever asked was killed
                self._send(status, content)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET  # noqa: N815  the base's own names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's own name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
