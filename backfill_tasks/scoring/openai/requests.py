"""Requests to the model: their bodies, and bounds on their tokens."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from backfill_tasks.scoring.contract import HIGHEST, LOWEST, Usage
from backfill_tasks.scoring.openai import tokens
from backfill_tasks.scoring.prompt import Message
from backfill_tasks.settings import Settings

Body = Mapping[str, object]

_NUMBER: Mapping[str, object] = MappingProxyType({"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))})

#: The only shape of an answer. With strict decoding, the model can't produce another, whatever a message says.
SCHEMA: Mapping[str, object] = MappingProxyType(
    {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "fitScore": dict(_NUMBER),
            "intentScore": dict(_NUMBER),
            "overallScore": dict(_NUMBER),
        },
        "required": ["reasoning", "fitScore", "intentScore", "overallScore"],
        "additionalProperties": False,
    }
)
_NAME = "lead_score"

#: Tokens that a server may add to a request by itself: separators of messages, the frame around the schema.
_FRAME_TOKENS = 512

#: The output tokens that are assumed before any were measured: of the answer, and of the reasoning by its effort.
_ANSWER_TOKENS = 100
_REASONING_TOKENS: Mapping[str, int] = MappingProxyType({"minimal": 0, "low": 250, "medium": 600, "high": 1_500})

#: How many bytes of text make a token on average, by the README of OpenAI's tokenizer (tiktoken).
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Dialect(ABC):
    """One of the two APIs: its path, and how it writes a request. The servers' differences are here and in `answer`."""

    path: str

    @abstractmethod
    def body(self, messages: Sequence[Message], settings: Settings) -> Body:
        """Return the body of a request."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The API's name, for messages."""


class Responses(Dialect):
    """The Responses API. The provider keeps no copy of the request (`store`)."""

    name = "Responses API"

    def body(self, messages: Sequence[Message], settings: Settings) -> Body:
        """Return the body of a request."""
        return {
            "model": settings.openai_model,
            "input": _listed(messages),
            "text": {"format": {"type": "json_schema", "name": _NAME, "strict": True, "schema": dict(SCHEMA)}},
            "max_output_tokens": settings.openai_max_output_tokens,
            "store": False,
            **({} if settings.openai_effort == "none" else {"reasoning": {"effort": settings.openai_effort}}),
        }


class Chat(Dialect):
    """The Chat Completions API, which most compatible servers have."""

    name = "Chat Completions API"

    def body(self, messages: Sequence[Message], settings: Settings) -> Body:
        """Return the body of a request."""
        return {
            "model": settings.openai_model,
            "messages": _listed(messages),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": _NAME, "strict": True, "schema": dict(SCHEMA)},
            },
            "max_completion_tokens": settings.openai_max_output_tokens,
            **({} if settings.openai_effort == "none" else {"reasoning_effort": settings.openai_effort}),
        }


#: The APIs by the value of BACKFILL_OPENAI_API.
DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {"responses": Responses("/responses"), "chat": Chat("/chat/completions")}
)


def upper_bound(body: Body, max_output_tokens: int) -> Usage:
    """Return the most tokens that one request can be billed for.

    The models' tokenizers are byte-level: they encode UTF-8 bytes, and each token stands for one byte or more (byte
    pair encoding merges bytes, it never splits one; see GPT-2's paper, section 2.2, and the README of tiktoken). So
    there are no more tokens than bytes. The body has the texts, the schema, and more than both in punctuation.
    """
    return Usage(_bytes(body) + _FRAME_TOKENS, max_output_tokens)


def expected(body: Body, settings: Settings) -> Usage:
    """Return about how many tokens one request takes: the input by `tokens.estimated`, the output by assumption."""
    content = json.dumps(body, ensure_ascii=False).replace("\\n", "\n")
    thinks = 0 if settings.openai_effort == "none" else _REASONING_TOKENS[settings.openai_effort]
    output = min(settings.openai_max_output_tokens, _ANSWER_TOKENS + thinks)
    return Usage(round(tokens.estimated(content)), output)


def estimate(body: Body, max_output_tokens: int) -> int:
    """Return about how many tokens one request takes from the provider's limit, before its answer is known."""
    return _bytes(body) // _BYTES_PER_TOKEN + max_output_tokens


def _bytes(body: Body) -> int:
    return len(json.dumps(body, ensure_ascii=False).encode())


def _listed(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in messages]
