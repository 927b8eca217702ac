"""Scores from rules: the fit, the intent, and the overall score that follows from both."""

from backfill_tasks.scoring.contract import REASONING_CHARACTERS, Conversation, Score, Scorer, Usage
from backfill_tasks.scoring.rules import fit, intent


class Rules(Scorer):
    """The scorer `rules`: the same conversation always gets the same score. It reads no clock, file or network.

    It knows phrases, not meanings: irony, a refusal in other words, or a language that it doesn't know count as cold.
    Its reasoning names the rules that fired, and repeats nothing of the conversation.
    """

    name = "rules"

    @property
    def model(self) -> None:
        """No model: scoring costs nothing."""

    def upper_bound(self, conversation: Conversation) -> Usage:  # noqa: ARG002
        """Return no tokens."""
        return Usage()

    async def score(self, conversation: Conversation) -> Score:
        """Score one conversation; this never fails."""
        return scored(conversation)


def scored(conversation: Conversation) -> Score:
    """Return the score of one conversation."""
    fits, intends = fit.judge(conversation), intent.judge(conversation.lines)
    reasoning = (
        f"Scored by rules, without a model. Fit {fits.level}: {', '.join(fits.rules)}."
        f" Intent {intends.level}: {', '.join(intends.rules)}."
    )
    overall = overall_of(fits.level, intends.level)
    return Score(fits.level, intends.level, overall, reasoning[:REASONING_CHARACTERS])


def overall_of(fit_level: int, intent_level: int) -> int:
    """Return the overall score on the host's scale.

    1 is a poor fit or a rejection; 4 a great fit with high intent; 3 a good fit with some intent, or an uncertain one
    with high intent; 2 all else.
    """
    if fit_level == fit.POOR or intent_level == intent.REJECTS:
        return 1
    if fit_level == fit.GREAT and intent_level == intent.HIGH:
        return 4
    if intent_level == intent.HIGH or (fit_level >= fit.GOOD and intent_level == intent.SOME):
        return 3
    return 2
