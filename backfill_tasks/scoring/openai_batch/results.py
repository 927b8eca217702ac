"""The results of a batch: one line of JSON for each request, in any order, in a file of results and one of errors."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from backfill_tasks.scoring.contract import Score, Unscored, Usage
from backfill_tasks.scoring.openai import answer

#: Codes of requests that the provider never worked on.
_NOT_WORKED_ON = frozenset({"batch_expired", "batch_cancelled"})

_OK = 200


@dataclass(frozen=True)
class Back:
    """The request has no result: the job goes back to the queue.

    `tried`: whether the provider worked on it, so that the attempt counts. `why` repeats nothing of the conversation.
    """

    why: str
    tried: bool


@dataclass(frozen=True)
class Collected:
    """The end of one job's request. `usage`: what it is known to have used; None: unknown, so its bound counts."""

    job: str
    outcome: Score | Unscored | Back
    usage: Usage | None


def collected(jobs: Sequence[str], contents: Sequence[str | None], verdict: str) -> list[Collected]:
    """Return the end of each job: from its line or, without one, from how the batch ended.

    Lines that can't be read, or belong to no job, are passed over: their jobs go back. If a content is gone (None), a
    job without a line may have been paid for.
    """
    found: dict[str, Collected] = {}
    for each in _lines(content for content in contents if content is not None):
        if each.job in jobs:
            found.setdefault(each.job, each)
    missing = Back(f"the provider's batch was {verdict} without a result for this request", tried=False)
    if None in contents:
        gone = Back("the provider has lost the batch's results", tried=True)
        return [found.get(job, Collected(job, gone, None)) for job in jobs]
    return [found.get(job, Collected(job, missing, Usage())) for job in jobs]


def _lines(contents: Iterable[str]) -> Iterator[Collected]:
    for line in (line for content in contents for line in content.splitlines() if line.strip()):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("custom_id"), str):
            yield _collected(entry["custom_id"], entry)


def _collected(job: str, entry: dict[str, object]) -> Collected:
    error, response = entry.get("error"), entry.get("response")
    if isinstance(error, dict) and error.get("code") in _NOT_WORKED_ON:
        return Collected(job, Back("the provider's batch ended before this request", tried=False), Usage())
    if not isinstance(response, dict):
        return Collected(job, Back("the provider failed on this request", tried=True), None)
    status = response.get("status_code")
    if status != _OK:
        return Collected(job, Back(f"the provider refused this request ({_shown(status)})", tried=True), Usage())
    try:
        found = answer.of(response.get("body"))
    except answer.BrokenAnswerError:
        return Collected(job, Back("the provider's result can't be read", tried=True), None)
    return Collected(job, replace(found.result, usage=found.usage or Usage()), found.usage)


def _shown(status: object) -> str:
    return str(status) if type(status) is int else "without a status"
