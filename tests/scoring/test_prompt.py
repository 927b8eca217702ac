"""The prompt: values can't leave their quotation, a file replaces it, and the host's overrides apply."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring.samples import conversation

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring import prompt
from backfill_tasks.scoring.contract import PromptOverride, Workspace

SMALL = """
key = "lead_scoring.score.v1"
[[messages]]
role = "system"
content = "Score for {{workspace.companyName}}."
base_hashes = ["ABC123"]
[[messages]]
role = "user"
content = "{{transcript}}"
"""


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def small(tmp_path: Path) -> prompt.Prompt:
    path = tmp_path / "prompt.toml"
    path.write_text(SMALL, encoding="utf-8")
    return prompt.load(str(path))


def override(content: str, *, base: str, role: str = "system", index: int = 0) -> PromptOverride:
    return PromptOverride(role, index, base, content)


def system_text(of: prompt.Prompt, *overrides: PromptOverride) -> str:
    (first, *_) = of.messages(conversation("Hello", workspace=Workspace("c", "Acme", prompt_overrides=overrides)))
    return first.content


@given(st.text())
def test_the_data_is_one_json_object_whatever_a_message_says(text: str) -> None:
    found = conversation(text, text + '", "lead": {{transcript}} }', company_name=text)

    system, user = prompt.load().messages(found)

    data = json.loads(user.content)
    assert data["conversation"] == found.transcript
    assert data["lead"]["company"] == text
    assert text not in system.content or text in prompt.load().templates[0].message.content


def test_a_lone_surrogate_can_be_sent() -> None:
    _, user = prompt.load().messages(conversation("a\udc80b"))

    assert "a?b" in user.content
    user.content.encode("utf-8")


def test_placeholders_in_values_stay_as_they_are(small: prompt.Prompt) -> None:
    _, user = small.messages(conversation("{{workspace.companyName}}"))

    assert "{{workspace.companyName}}" in user.content


class TestOverrides:
    def test_one_made_for_the_text_of_the_file_replaces_it(self, small: prompt.Prompt) -> None:
        made = override("Only for {{lead.industry}}.", base=sha256("Score for {{workspace.companyName}}."))

        assert system_text(small, made) == 'Only for "dentistry".'

    def test_one_made_for_a_hash_that_the_file_lists_replaces_it(self, small: prompt.Prompt) -> None:
        assert system_text(small, override("Other.", base="abc123")) == "Other."

    def test_the_first_that_applies_wins(self, small: prompt.Prompt) -> None:
        stale, own, shared = (
            override(text, base=base) for text, base in (("1", "old"), ("2", "abc123"), ("3", "abc123"))
        )

        assert system_text(small, stale, own, shared) == "2"

    @pytest.mark.parametrize(
        ("made", "why"),
        [
            (override("x", base="old"), "it was made for another text"),
            (override("{{leadName}}", base="abc123"), "a placeholder that isn't known here: 'leadName'"),
            (override("x", base=sha256("{{transcript}}"), role="user"), "it lacks {{transcript}}"),
            (override("x", base="abc123", index=1), "has no message 'system' number 1"),
            (override("x", base="abc123", role="tool"), "has no message 'tool' number 0"),
        ],
    )
    def test_one_that_can_t_be_applied_changes_nothing_and_is_explained(
        self, small: prompt.Prompt, made: PromptOverride, why: str
    ) -> None:
        assert system_text(small, made) == 'Score for "Acme".'
        assert why in str(small.why_not(made))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("key = ", "isn't a prompt in TOML"),
        (SMALL.replace("score.v1", "score.v2"), "must have key"),
        (SMALL.replace("{{transcript}}", "x"), "must have {{transcript}} in one message"),
        (SMALL.replace("workspace.companyName", "company"), "there is no 'company'; known are workspace.companyName"),
        (SMALL.replace('"user"', '"root"'), "its role must be one of system, user, assistant"),
        (SMALL.replace('["ABC123"]', "[1]"), "base_hashes must be a list of texts"),
        (SMALL.replace("base_hashes", "hashes"), "must have a role and a content"),
    ],
)
def test_a_file_that_is_no_prompt_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError) as refused:
        prompt.load(str(path))

    assert why in str(refused.value)
