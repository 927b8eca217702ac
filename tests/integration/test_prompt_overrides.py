"""The host's prompt overrides, read from its own tables."""

import hashlib
from collections.abc import Iterator

import pytest
from integration.site import Site
from sqlalchemy import Connection, text

from backfill_tasks.scoring import prompt, prompt_overrides
from backfill_tasks.scoring.contract import PromptOverride
from backfill_tasks.scoring.prompt_overrides import Unapplied

#: The host's tables, in its newer revision.
TABLES = """
CREATE TABLE public."SystemPromptOverride" (
  id text PRIMARY KEY, "promptKey" text, role text, index integer, "baseContentHash" text, content text
);
CREATE UNIQUE INDEX ON public."SystemPromptOverride" ("promptKey", role, index);
CREATE TABLE public."PromptOverride" (
  id text PRIMARY KEY, "clientId" text, "promptKey" text, role text, index integer, "baseContentHash" text, content text
);
CREATE UNIQUE INDEX ON public."PromptOverride" ("clientId", "promptKey", role, index);
INSERT INTO public."PromptOverride" VALUES
  ('1', 'a', 'lead_scoring.score.v1', 'system', 0, :known, 'For a'),
  ('2', 'b', 'lead_scoring.score.v1', 'system', 0, 'stale', 'For b'),
  ('3', 'a', 'another.prompt', 'system', 0, :known, 'Another prompt');
INSERT INTO public."SystemPromptOverride" VALUES
  ('1', 'lead_scoring.score.v1', 'system', 0, :known, 'For all'),
  ('2', 'lead_scoring.score.v1', 'user', 7, :known, 'For nothing');
"""

KNOWN = hashlib.sha256(prompt.load().templates[0].message.content.encode()).hexdigest()
FOR_ALL = (PromptOverride("system", 0, KNOWN, "For all"), PromptOverride("user", 7, KNOWN, "For nothing"))


@pytest.fixture
def connection(own_site: Site) -> Iterator[Connection]:
    with own_site.engine.connect() as opened:
        yield opened


@pytest.fixture
def newer_host(connection: Connection) -> Connection:
    for each in TABLES.replace(":known", f"'{KNOWN}'").split(";\n"):
        if each.strip():
            connection.execute(text(each))
    return connection


def test_an_older_host_has_none(connection: Connection) -> None:
    assert prompt_overrides.read(connection, "public", ["a"]) == {"a": ()}
    assert list(prompt_overrides.unapplied(connection, "public", prompt.load())) == []


def test_the_workspace_s_own_come_before_those_for_all(newer_host: Connection) -> None:
    found = prompt_overrides.read(newer_host, "public", ["a", "c"])

    assert found == {"a": (PromptOverride("system", 0, KNOWN, "For a"), *FOR_ALL), "c": FOR_ALL}


def test_those_that_can_t_be_applied_are_named_with_the_reason(newer_host: Connection) -> None:
    found = list(prompt_overrides.unapplied(newer_host, "public", prompt.load()))

    assert found == [
        Unapplied("b", "system", 0, "it was made for another text than the one in the prompt file"),
        Unapplied(None, "user", 7, "the prompt file has no message 'user' number 7"),
    ]
