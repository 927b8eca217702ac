"""Failed requests: what each means for the conversation and for the run. No server's text is repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

from backfill_tasks.scoring.openai import headers
from backfill_tasks.scoring.openai.requests import DIALECTS
from backfill_tasks.settings import Settings

Verdict = Literal["retry", "refuse", "unscored"]

#: Failures before the request left this machine: it can't have been billed.
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

#: Codes of a 429 (or 400) after which no request succeeds until somebody pays.
_OUT_OF_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

#: Codes of a 400 that is about this conversation alone.
_OF_THIS_CONVERSATION: Mapping[str, str] = {
    "context_length_exceeded": "the conversation is too long for the model",
    "content_filter": "the provider's filter blocked the conversation",
    "content_policy_violation": "the provider's filter blocked the conversation",
    "invalid_prompt": "the provider's filter blocked the conversation",
}

#: The parts of a request: a 400 that names one means that the model, or the server, doesn't support it.
_OUR_PARAMETERS = frozenset(
    {"model", "text", "reasoning", "reasoning_effort", "response_format", "max_output_tokens", "store"}
    | {"max_completion_tokens", "input", "messages"}
)

_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED = 400, 401, 403, 404, 405
_TIMEOUT, _CONFLICT, _TOO_LARGE, _TOO_MANY = 408, 409, 413, 429
_SERVER_ERRORS = 500


@dataclass(frozen=True)
class Failure:
    """One failed request.

    Attributes:
        verdict: try again; stop scoring; or leave this lead without a score.
        text: what happened and what to do, for the operator.
        billed: whether the provider may bill the request: it may have worked on it.
        after: the seconds that the server asks to wait; None: it doesn't say.
        hold: the seconds for which the whole fleet must wait: its rate limit is reached.
    """

    verdict: Verdict
    text: str
    billed: bool = False
    after: float | None = None
    hold: float = 0.0


def of(error: APIError | TimeoutError | httpx2.HTTPError, settings: Settings, *, tokens: int) -> Failure:
    """Return the meaning of an error of the client library, for a request of about so many tokens."""
    if isinstance(error, APIStatusError):
        return _of_status(error, settings, tokens)
    cause = error.__cause__ or error
    if isinstance(cause, _UNSENT):
        return Failure("retry", f"no connection to {settings.openai_base_url}: check OPENAI_BASE_URL and the network")
    if isinstance(error, TimeoutError | APITimeoutError):
        return Failure("retry", f"no answer within {settings.openai_timeout:g} s", billed=True)
    if isinstance(error, APIConnectionError | httpx2.HTTPError):
        return Failure("retry", "the connection was lost before the answer was complete", billed=True)
    return Failure("retry", f"the request failed ({type(error).__name__})", billed=True)


def broken() -> Failure:
    """Return the failure of an answer that isn't one of this API."""
    return Failure("retry", "the server's answer is incomplete, or not of this API", billed=True)


def _of_status(error: APIStatusError, settings: Settings, tokens: int) -> Failure:
    status, codes = error.status_code, {error.code, error.type}
    after = headers.retry_after(error.response.headers)
    if codes & _OUT_OF_QUOTA:
        return Failure(
            "refuse", "the account has no quota left: add credit, or set OPENAI_API_KEY to another account's"
        )
    if status == _TOO_MANY:
        hold = headers.until_room(error.response.headers, tokens) if after is None else after
        return Failure("retry", "the server's rate limit is reached (429)", after=after, hold=hold)
    if status >= _SERVER_ERRORS or status in {_TIMEOUT, _CONFLICT}:
        return Failure("retry", f"the server failed ({status})", billed=True, after=after)
    if status == _TOO_LARGE:
        return Failure("unscored", "the conversation is too long for the server (413)")
    if status == _BAD_REQUEST:
        return _of_bad_request(error)
    return Failure("refuse", _advice(status, settings))


def _of_bad_request(error: APIStatusError) -> Failure:
    why = _OF_THIS_CONVERSATION.get(error.code or "") or _OF_THIS_CONVERSATION.get(error.type or "")
    if why is not None:
        return Failure("unscored", why)
    parameter = (error.param or "").partition(".")[0].partition("[")[0]
    if parameter in _OUR_PARAMETERS:
        return Failure(
            "refuse",
            f"the model or the server doesn't take the parameter {parameter}: check BACKFILL_OPENAI_MODEL,"
            " BACKFILL_OPENAI_API and BACKFILL_OPENAI_EFFORT (none, if the model doesn't reason)",
        )
    return Failure("retry", "the server refused the request (400) and doesn't say why")


def _advice(status: int, settings: Settings) -> str:
    model, url = settings.openai_model, settings.openai_base_url
    match status:
        case _ if status == _UNAUTHORIZED:
            return f"{url} refuses the key (401): set OPENAI_API_KEY to a valid one, and restart the workers"
        case _ if status == _FORBIDDEN:
            return f"{url} doesn't let this key use {model} (403): give its project the right, or use another key"
        case _ if status in {_NOT_FOUND, _NOT_ALLOWED}:
            api = DIALECTS[settings.openai_api].name
            return (
                f"{url} has no model {model}, or no {api} ({status}): check BACKFILL_OPENAI_MODEL, OPENAI_BASE_URL and"
                " BACKFILL_OPENAI_API (chat, for most compatible servers)"
            )
    return f"{url} refuses every request ({status}): check OPENAI_BASE_URL and BACKFILL_OPENAI_API"
