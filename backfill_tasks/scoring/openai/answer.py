"""Answers of the model: what they say, whatever a server may send. No text of an answer is repeated in an error."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from backfill_tasks.scoring.contract import HIGHEST, LOWEST, REASONING_CHARACTERS, Score, Unscored, Usage

_NUMBERS = ("fitScore", "intentScore", "overallScore")

#: More tokens than any request has: a server that says so doesn't count.
_MOST_TOKENS = 1_000_000_000


class BrokenAnswerError(ValueError):
    """The server's answer isn't one of this API: it was cut off, or comes from something else."""


@dataclass(frozen=True)
class Answer:
    """A server's answer. `usage`: None if the server doesn't say. `result`: without usage."""

    usage: Usage | None
    result: Score | Unscored


def read(text: str) -> Answer:
    """Read an answer of the Responses API or of the Chat Completions API.

    Raises:
        BrokenAnswerError: it is neither, or it reports a failure.
    """
    return of(_loaded(text))


def of(envelope: object) -> Answer:
    """Read a decoded answer, as `read` does."""
    if not isinstance(envelope, dict) or envelope.get("error"):
        raise BrokenAnswerError("the answer is no JSON object, or reports an error")
    if isinstance(envelope.get("output"), list):
        return Answer(_usage(envelope, "input_tokens", "output_tokens"), _of_responses(envelope))
    if isinstance(envelope.get("choices"), list) and envelope["choices"]:
        return Answer(_usage(envelope, "prompt_tokens", "completion_tokens"), _of_chat(envelope["choices"][0]))
    raise BrokenAnswerError("the answer has neither output nor choices")


def _of_responses(envelope: dict[str, object]) -> Score | Unscored:
    if envelope.get("status") == "incomplete":
        return _cut_off()
    parts = list(_parts(envelope["output"]))
    if any(each.get("type") == "refusal" for each in parts):
        return _refused()
    return score("".join(str(each.get("text", "")) for each in parts if each.get("type") == "output_text"))


def _parts(output: object) -> Iterator[dict[str, object]]:
    """Yield the parts of all messages; reasoning isn't one."""
    for item in output if isinstance(output, list) else []:
        if isinstance(item, dict) and item.get("type") == "message" and isinstance(item.get("content"), list):
            yield from (each for each in item["content"] if isinstance(each, dict))


def _of_chat(choice: object) -> Score | Unscored:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise BrokenAnswerError("the answer's choice has no message")
    if choice.get("finish_reason") == "length":
        return _cut_off()
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        return _refused()
    return score(str(message.get("content") or ""))


def score(text: str) -> Score | Unscored:
    """Read the model's own text: numbers are rounded and clamped, the reasoning is cut to what the host keeps."""
    try:
        found = _loaded(text)
    except BrokenAnswerError:
        return Unscored("the model's answer is not JSON")
    if not isinstance(found, dict):
        return Unscored("the model's answer is no JSON object")
    numbers = [_number(found.get(name)) for name in _NUMBERS]
    reasoning = found.get("reasoning")
    if not isinstance(reasoning, str):
        return Unscored("the model's answer has no reasoning")
    fit, intent, overall = numbers
    if fit is None or intent is None or overall is None:
        return Unscored("the model's answer lacks a score")
    return Score(fit, intent, overall, _stored(reasoning))


def _number(value: object) -> int | None:
    """Round half up, as the host does, and clamp; None if it isn't a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return math.floor(min(max(value, LOWEST), HIGHEST) + 0.5)


def _stored(reasoning: str) -> str:
    """Return a text that PostgreSQL takes: no NUL, no lone surrogate."""
    return reasoning.replace("\0", "").encode("utf-8", "replace").decode()[:REASONING_CHARACTERS]


def _usage(envelope: dict[str, object], input_name: str, output_name: str) -> Usage | None:
    said = envelope.get("usage")
    if not isinstance(said, dict):
        return None
    numbers = [said.get(input_name), said.get(output_name)]
    if not all(type(each) is int and 0 <= each <= _MOST_TOKENS for each in numbers):
        return None
    return Usage(said[input_name], said[output_name])


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a number of 5,000 digits; brackets nested 100,000 deep
        raise BrokenAnswerError("the answer is not JSON") from None


def _cut_off() -> Unscored:
    return Unscored("the answer was cut off: raise BACKFILL_OPENAI_MAX_OUTPUT_TOKENS")


def _refused() -> Unscored:
    return Unscored("the model declined to answer")
