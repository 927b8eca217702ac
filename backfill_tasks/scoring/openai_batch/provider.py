"""The provider's side of a batch: files and batches. Each method is one step, and fails as a whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import httpx2
from openai import APIError, NotFoundError, OpenAI

from backfill_tasks.scoring.contract import RefusedError, RetryableError
from backfill_tasks.scoring.openai import failures
from backfill_tasks.settings import Settings

#: The key of our id in a batch's metadata.
METADATA = "backfill_submission"

_PURPOSE: Final = "batch"

#: Files are larger than single requests: the longest that one step may take, in seconds.
_TIMEOUT = 120.0

#: How many entries of a list are asked for at once, and in all. Ours is among the newest.
_LISTED, _MOST_LISTED = 100, 2_000

#: The statuses that don't change any more.
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

T = TypeVar("T")


@dataclass(frozen=True)
class ProviderBatch:
    """A batch as the provider reports it. `file_ids`: of its results and its errors, as far as it has any."""

    id: str
    status: str
    file_ids: tuple[str, ...]


class Provider:
    """Calls the Files and Batches APIs.

    Each method raises RetryableError for a passing failure, after which the step may or may not have been done, and
    RefusedError if the provider has certainly refused it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = OpenAI(
            api_key=settings.openai_api_key, base_url=settings.openai_base_url, timeout=_TIMEOUT, max_retries=0
        )

    def upload(self, name: str, content: bytes) -> str:
        """Upload a batch's requests and return the file's id."""
        return self._called(lambda: self._client.files.create(file=(name, content), purpose=_PURPOSE).id)

    def create(self, file_id: str, endpoint: str, submission: str) -> ProviderBatch:
        """Create the batch of a file."""
        body = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {METADATA: submission},
        }
        return self._called(lambda: _read(self._client.post("/batches", cast_to=httpx2.Response, body=body)))

    def find(self, submission: str) -> ProviderBatch | None:
        """Return the batch of one of our submissions; None: there is none among the newest."""
        return next(
            (_batch(each) for each in self._listed("/batches") if _metadata(each).get(METADATA) == submission), None
        )

    def retrieve(self, batch_id: str) -> ProviderBatch | None:
        """Return a batch; None: the provider doesn't know it."""
        return self._called(
            lambda: _read(self._client.get(f"/batches/{batch_id}", cast_to=httpx2.Response)), missing=None
        )

    def cancel(self, batch_id: str) -> None:
        """Ask to cancel a batch; one that has ended is no error."""
        path = f"/batches/{batch_id}/cancel"
        with suppress(RefusedError):
            self._called(lambda: self._client.post(path, cast_to=httpx2.Response, body={}))

    def content(self, file_id: str) -> str | None:
        """Return a file's content; None: the provider doesn't have it any more."""
        path = f"/files/{file_id}/content"
        return self._called(lambda: self._client.get(path, cast_to=httpx2.Response).text, missing=None)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone is no error. No batch can be created from it afterwards."""
        self._called(lambda: self._client.delete(f"/files/{file_id}", cast_to=httpx2.Response), missing=None)

    def files(self, name: str) -> list[str]:
        """Return the ids of our files of a name, among the newest."""
        return [str(each.get("id")) for each in self._listed("/files") if each.get("filename") == name]

    def _listed(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the newest entries of a list."""
        asked: dict[str, object] = {"limit": _LISTED, **({"purpose": _PURPOSE} if path == "/files" else {})}
        for _ in range(_MOST_LISTED // _LISTED):
            page = self._called(partial(self._page, path, asked))
            yield from page["data"]
            if not page["data"] or not page.get("has_more"):
                return
            asked = {**asked, "after": page["data"][-1]["id"]}

    def _page(self, path: str, asked: dict[str, object]) -> dict[str, Any]:
        found = self._client.get(path, cast_to=httpx2.Response, options={"params": asked}).json()
        entries = found.get("data") if isinstance(found, dict) else None
        if not isinstance(entries, list) or not all(isinstance(each, dict) and "id" in each for each in entries):
            raise ValueError("not a list of objects")
        page: dict[str, Any] = found
        return page

    def _called(self, call: Callable[[], T], **default: T) -> T:
        """Call the API; `missing` is returned for what the provider doesn't know."""
        try:
            return call()
        except NotFoundError as error:
            if "missing" in default:
                return default["missing"]
            failure = failures.of(error, self._settings, tokens=0)
        except (APIError, TimeoutError, httpx2.HTTPError) as error:
            failure = failures.of(error, self._settings, tokens=0)
        except (ValueError, KeyError):
            failure = failures.broken()
        if failure.verdict == "retry":
            raise RetryableError(failure.text, after=failure.after) from None
        raise RefusedError(failure.text) from None


def _read(response: httpx2.Response) -> ProviderBatch:
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  as broken as any other answer
    return _batch(found)


def _batch(found: dict[str, Any]) -> ProviderBatch:
    ids = (found.get("output_file_id"), found.get("error_file_id"))
    return ProviderBatch(str(found["id"]), str(found["status"]), tuple(str(each) for each in ids if each))


def _metadata(found: dict[str, Any]) -> dict[str, object]:
    metadata = found.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
