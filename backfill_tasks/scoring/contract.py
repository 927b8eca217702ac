"""What a scorer gets, what it returns, and how it fails.

A scorer is a plug-in of the entry-point group `backfill.scorers`: a subclass of `Scorer` that is called without
arguments, or an instance. Texts from the host are data: a scorer never takes instructions from them, and their content
never reaches a log, an error or the ledger.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

#: The range of a score: 1 is a poor fit or a rejection, 4 a great fit with high intent.
LOWEST, HIGHEST = 1, 4

#: The host keeps at most this many characters of a reasoning.
REASONING_CHARACTERS = 500


@dataclass(frozen=True)
class PromptOverride:
    """A text of the host's that replaces one message of its prompt.

    Attributes:
        role, index: which message: `index` counts the messages of that role from 0.
        base_hash: the hash of the text that it was made to replace.
        content: the text.
    """

    role: str
    index: int
    base_hash: str
    content: str


@dataclass(frozen=True)
class Workspace:
    """A client of the host: whom it sells to, and what. An unknown field is empty.

    `prompt_overrides`: the overrides for this workspace, then those for all, as `prompt_overrides.read` returns them.
    """

    id: str
    company_name: str = ""
    ideal_customer_profile: str = ""
    service_description: str = ""
    qualification_questions: tuple[str, ...] = ()
    prompt_overrides: tuple[PromptOverride, ...] = ()


@dataclass(frozen=True)
class Line:
    """One message of a conversation. `inbound`: the lead wrote it."""

    inbound: bool
    text: str


@dataclass(frozen=True)
class Conversation:
    """One lead with its workspace and its messages.

    Attributes:
        job: the job's id; a scorer may use it to recognize its own request.
        workspace: the lead's workspace.
        lines: the oldest 60 messages, in the order in which they were sent.
        transcript: the same as one text: the last 24,000 characters.
        company_name, industry, employee_headcount: what the host knows about the lead; empty if unknown.
    """

    job: str
    workspace: Workspace
    lines: tuple[Line, ...]
    transcript: str
    company_name: str = ""
    industry: str = ""
    employee_headcount: str = ""


@dataclass(frozen=True)
class Usage:
    """The tokens of one request, or an upper bound on them."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Score:
    """The result for one lead: whole numbers from 1 to 4, and at most 500 characters of reasoning."""

    fit: int
    intent: int
    overall: int
    reasoning: str
    usage: Usage = Usage()


@dataclass(frozen=True)
class Unscored:
    """The model answered, but not with a score. The lead keeps none, and its job succeeds, as in the host.

    `why` is for the operator and repeats nothing of the answer.
    """

    why: str
    usage: Usage = Usage()


class ScorerError(Exception):
    """Scoring one conversation failed. The text repeats nothing of the conversation.

    `usage` is what the failed request is known to have used; None: unknown, so its upper bound counts as spent.
    """

    def __init__(self, text: str, *, usage: Usage | None = None) -> None:
        super().__init__(text)
        self.usage = usage


class RetryableError(ScorerError):
    """The attempt failed for a passing reason: a time-out, 429 or 5xx. `after`: seconds to wait, if the server said."""

    def __init__(self, text: str, *, after: float | None = None, usage: Usage | None = None) -> None:
        super().__init__(text, usage=usage)
        self.after = after


class PostponedError(RetryableError):
    """No request was sent, for a passing reason, such as a rate limit without room.

    The job wasn't tried, so its attempt doesn't count.
    """


class RefusedError(ScorerError):
    """Every further request would fail too (a wrong key, an unknown model, no quota): scoring stops.

    The job wasn't tried, so its attempt doesn't count.
    """


class AnyScorer(ABC):
    """What all scorers have, whether they answer at once or hours later."""

    #: The name of the entry point, the one that operators type.
    name: ClassVar[str]

    #: How many jobs a batch claims if the operator doesn't say.
    jobs_per_batch: ClassVar[int] = 256

    @property
    @abstractmethod
    def model(self) -> str | None:
        """The model that is paid for, by its name in the price list; None: scoring costs nothing."""

    #: Whether its requests have the price of the provider's Batch API.
    has_batch_price: ClassVar[bool] = False

    def estimate(self, conversation: Conversation) -> Usage | None:  # noqa: ARG002  for scorers that can tell
        """Return about what scoring this conversation takes, as far as can be told beforehand; None: it can't.

        A forecast corrects it by what earlier requests have used.
        """
        return None


class Scorer(AnyScorer):
    """Scores conversations, many at a time in one event loop."""

    @abstractmethod
    def upper_bound(self, conversation: Conversation) -> Usage:
        """Return the most tokens that scoring this conversation can use, all its requests together."""

    @abstractmethod
    async def score(self, conversation: Conversation) -> Score | Unscored:
        """Score one conversation.

        Raises:
            RetryableError: it may succeed later.
            PostponedError: the same, and no request was sent.
            RefusedError: no request will succeed until an operator acts.
        """

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Scorer"]:
        """Open what the scorer needs for one batch (connections) and close it afterwards."""
        yield self
