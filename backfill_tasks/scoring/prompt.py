"""The prompt: a file of messages, the host's overrides of them, and one conversation's values in them."""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.kinds import quoted
from backfill_tasks.scoring.contract import Conversation, PromptOverride

SETTING = "BACKFILL_PROMPT_FILE"

#: The host's name of this prompt.
KEY = "lead_scoring.score.v1"

ROLES = ("system", "user", "assistant")

_PLACEHOLDER = re.compile(r"\{\{([^{}\n]{0,100})\}\}")
_TRANSCRIPT = "transcript"

#: What a placeholder stands for.
_VALUES: Mapping[str, Callable[[Conversation], object]] = MappingProxyType(
    {
        "workspace.companyName": lambda it: it.workspace.company_name,
        "workspace.idealCustomerProfile": lambda it: it.workspace.ideal_customer_profile,
        "workspace.serviceDescription": lambda it: it.workspace.service_description,
        "workspace.qualificationQuestions": lambda it: list(it.workspace.qualification_questions),
        "lead.companyName": lambda it: it.company_name,
        "lead.industry": lambda it: it.industry,
        "lead.employeeHeadcount": lambda it: it.employee_headcount,
        _TRANSCRIPT: lambda it: it.transcript,
    }
)


@dataclass(frozen=True)
class Message:
    """One message of a prompt, with or without placeholders."""

    role: str
    content: str

    @cached_property
    def placeholders(self) -> frozenset[str]:
        """The names in double braces."""
        return frozenset(_PLACEHOLDER.findall(self.content))


@dataclass(frozen=True)
class Template:
    """A message of the prompt file.

    `index` counts the messages of its role from 0. `base_hashes`: an override made for one of them replaces it.
    """

    message: Message
    index: int
    base_hashes: frozenset[str]

    def overridden(self, overrides: Iterable[PromptOverride]) -> Message:
        """Return the first override that can be applied, as a message, or else the template's own."""
        return next(
            (Message(each.role, each.content) for each in overrides if self._is_meant(each) and not self.why_not(each)),
            self.message,
        )

    def why_not(self, override: PromptOverride) -> str | None:
        """Return why an override of this message can't be applied; None: it can."""
        if override.base_hash.lower() not in self.base_hashes:
            return "it was made for another text than the one in the prompt file"
        made = Message(override.role, override.content)
        if unknown := sorted(made.placeholders - set(_VALUES)):
            return f"it has a placeholder that isn't known here: {quoted(unknown[0])}"
        if _TRANSCRIPT in self.message.placeholders - made.placeholders:
            return "it lacks {{transcript}}"
        return None

    def _is_meant(self, override: PromptOverride) -> bool:
        return (override.role, override.index) == (self.message.role, self.index)


@dataclass(frozen=True)
class Prompt:
    """The messages of a prompt file, in order."""

    templates: tuple[Template, ...]

    def messages(self, conversation: Conversation) -> list[Message]:
        """Return the messages for one conversation: its workspace's overrides applied, and every value filled in.

        Values are JSON, so no text of the host's can close its own quotation. They aren't searched for placeholders.
        """
        overrides = conversation.workspace.prompt_overrides
        chosen = [each.overridden(overrides) for each in self.templates]
        return [Message(each.role, _filled(each.content, conversation)) for each in chosen]

    def why_not(self, override: PromptOverride) -> str | None:
        """Return why an override of the host's can't be applied; None: it can."""
        for each in self.templates:
            if (each.message.role, each.index) == (override.role, override.index):
                return each.why_not(override)
        return f"the prompt file has no message {quoted(override.role)} number {override.index}"


def load(path: str | None = None) -> Prompt:
    """Return the prompt of a file or, without one, of this package.

    Raises:
        ConfigurationError: the file can't be read, or isn't a prompt.
    """
    return _load(path)


@cache
def _load(path: str | None) -> Prompt:
    name = f"{SETTING} {quoted(path)}" if path else "prompt.toml"
    source = Path(path) if path else files("backfill_tasks.scoring").joinpath("prompt.toml")
    try:
        found = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{name} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name} isn't a prompt in TOML: {error}") from None
    if found.get("key") != KEY or set(found) != {"key", "messages"} or not isinstance(found["messages"], list):
        raise ConfigurationError(f'{name} must have key = "{KEY}", [[messages]], and nothing else')
    templates = tuple(_templates(found["messages"], name))
    if sum(_TRANSCRIPT in each.message.placeholders for each in templates) != 1:
        raise ConfigurationError(f"{name} must have {{{{transcript}}}} in one message")
    return Prompt(templates)


def _templates(entries: list[object], name: str) -> Iterator[Template]:
    counts = dict.fromkeys(ROLES, 0)
    for number, entry in enumerate(entries, 1):
        where = f"{name}: message {number}"
        if not isinstance(entry, dict) or not {"role", "content"} <= set(entry) <= {"role", "content", "base_hashes"}:
            raise ConfigurationError(f"{where} must have a role and a content, and may have base_hashes")
        role, content, hashes = entry["role"], entry["content"], entry.get("base_hashes", [])
        if role not in ROLES or not isinstance(content, str):
            raise ConfigurationError(f"{where}: its role must be one of {', '.join(ROLES)}, and its content a text")
        if not isinstance(hashes, list) or not all(isinstance(each, str) for each in hashes):
            raise ConfigurationError(f"{where}: base_hashes must be a list of texts")
        message = Message(role, content.strip())
        if unknown := sorted(message.placeholders - set(_VALUES)):
            raise ConfigurationError(f"{where}: there is no {quoted(unknown[0])}; known are {', '.join(_VALUES)}")
        yield Template(
            message, counts[role], frozenset({_hash(content), _hash(content.strip()), *map(str.lower, hashes)})
        )
        counts[role] += 1


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _filled(content: str, conversation: Conversation) -> str:
    return _PLACEHOLDER.sub(lambda found: _as_json(_VALUES[found[1]](conversation)), content)


def _as_json(value: object) -> str:
    """Return a value as JSON that UTF-8 can carry: a lone surrogate, from a database without an encoding, becomes ?."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
