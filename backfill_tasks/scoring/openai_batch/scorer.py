"""The flow of a batch: submit, recover, poll, collect, close. A step that was cut off is done again from the ledger.

How a submission is made exactly once. It is recorded; its file is uploaded under its id; the file's id is recorded; the
batch is created with its id in the metadata; the batch's id is recorded. A submission whose worker died in between is
recovered: the batch is looked for by the metadata. If there is none, the input file is deleted, after which no creation
that is still on its way can succeed, and the batch is looked for once more. Only then the submission counts as unmade.

Weakness: it relies on the provider to list a batch as soon as it was created.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from sqlalchemy import Connection, Engine

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring import prompt
from backfill_tasks.scoring.contract import Conversation, RefusedError, RetryableError, ScorerError, Usage
from backfill_tasks.scoring.openai import requests
from backfill_tasks.scoring.openai_batch import ledger, results
from backfill_tasks.scoring.openai_batch.ledger import Place, Submission
from backfill_tasks.scoring.openai_batch.provider import ENDED, Provider
from backfill_tasks.scoring.openai_batch.results import Collected
from backfill_tasks.settings import Settings

#: The most requests and bytes of one submission: far below the provider's limits, because a worker holds it in memory.
MOST_REQUESTS, MOST_BYTES = 2_000, 50_000_000

Admit = Callable[[Connection, str, Mapping[str, Usage]], Mapping[str, int]]
"""Called with a submission's id and the upper bound of each job's request, in the transaction that records it.

Returns the jobs that the submission gets, each with what is reserved for it: their claims now belong to it.
"""

LetGo = Callable[[Connection, Submission], None]
"""Called in the transaction that gives a submission up as unmade or lost: its jobs go back to the queue."""


def admit_all(_: Connection, __: str, bounds: Mapping[str, Usage]) -> Mapping[str, int]:
    """Admit every job, and reserve nothing."""
    return dict.fromkeys(bounds, 0)


def let_go(_: Connection, __: Submission) -> None:
    """Leave the jobs as they are."""


class BatchScorer:
    """Scores the claimed conversations of one slot through the provider's Batch API.

    Any worker may do any step, also at the same time as another. Costs are at the price of the Batch API:
    `prices.cost(…, batch=True)`.

    Args:
        engine: the connection to the ledger.
        settings: the settings.
        place: the slot.
        lapses: after so many seconds the jobs aren't kept for a submission any more, so it is given up as lost.
        let_go: gives the jobs back of a submission that is given up.

    Raises:
        ConfigurationError: OPENAI_API_KEY isn't set, or the prompt file is invalid.
    """

    def __init__(
        self, engine: Engine, settings: Settings, place: Place, *, lapses: float = float("inf"), let_go: LetGo = let_go
    ) -> None:
        if not settings.openai_api_key:
            raise ConfigurationError("OPENAI_API_KEY is not set, and scoring in batches needs it")
        self._engine = engine
        self._settings = settings
        self._place = place
        self._lapses = lapses
        self._let_go = let_go
        self._prompt = prompt.load(settings.prompt_file)
        self._dialect = requests.DIALECTS[settings.openai_api]
        self._account = hashlib.sha256(f"{settings.openai_base_url}\n{settings.openai_api_key}".encode()).hexdigest()[
            :16
        ]
        self.provider = Provider(settings)

    @property
    def model(self) -> str:
        """The model that is paid for."""
        return self._settings.openai_model

    def submit(self, conversations: Sequence[Conversation], admit: Admit = admit_all) -> Submission | None:
        """Submit conversations, and return the submission; None: none of them was admitted.

        A conversation that doesn't fit, is in another open submission, or isn't admitted isn't among the submission's
        jobs. If the provider fails in a passing way, the submission stays `submitting`, for `recover`.

        Raises:
            RefusedError: the provider refuses the submission; it is unmade.
        """
        lines = self._lines(conversations)
        submission = f"backfill-{secrets.token_hex(12)}"
        with self._engine.begin() as connection:
            jobs = ledger.record(connection, submission, self._place, self._account, self.model, list(lines))
            costs = admit(connection, submission, {job: lines[job][1] for job in lines if job in set(jobs)})
            taken = {job: lines[job] for job in costs}
            estimates = {
                each.job: requests.expected(self._body(each), self._settings).input_tokens
                for each in conversations
                if each.job in costs
            }
            ledger.bound(connection, submission, costs, estimates, _sum(bound for _, bound in taken.values()))
            if not taken:
                ledger.give_up(connection, submission, "unmade")
        if not taken:
            return None
        try:
            self._make(submission, b"".join(line for line, _ in taken.values()))
        except RefusedError:
            self._give_up_unmade(submission)
            raise
        except ScorerError:
            pass
        return self._read(submission)

    def recover(self) -> list[Submission]:
        """Finish the submissions whose making was cut off, and return them.

        Each is `submitted` or `unmade` afterwards; the jobs of an unmade one go back to the queue.

        Raises:
            RetryableError, RefusedError: the provider can't be asked; the rest is recovered later.
        """
        return [self._recovered(each) for each in self._in_state("submitting") if not self._is_lapsed(each)]

    def poll(self) -> list[Submission]:
        """Ask for all submitted batches, and return those that have just ended, or that the provider has lost.

        Those that are unwanted are cancelled.

        Raises:
            RetryableError, RefusedError: the provider can't be asked.
        """
        return [each for submission in self._in_state("submitted") if (each := self._polled(submission)) is not None]

    def _polled(self, submission: Submission) -> Submission | None:
        assert submission.provider_id is not None  # noqa: S101  the state says so
        if self._is_lapsed(submission):
            return self._read(submission.id)
        batch = self.provider.retrieve(submission.provider_id)
        if batch is not None and batch.status not in ENDED:
            if submission.unwanted and batch.status != "cancelling":
                self.provider.cancel(submission.provider_id)
            return None
        with self._engine.begin() as connection:
            if batch is None:
                changed = self._give_up(connection, submission, "lost")
            else:
                changed = ledger.ended(connection, submission.id, batch.status, batch.file_ids)
        return self._read(submission.id) if changed else None

    def _is_lapsed(self, submission: Submission) -> bool:
        """Give up a submission that has no claim on its jobs any more, and return whether it was one.

        Raises:
            RetryableError: it isn't, but only another account can ask for it.
        """
        if submission.seconds > self._lapses:
            with self._engine.begin() as connection:
                self._give_up(connection, submission, "lost")
            return True
        if submission.account != self._account:
            raise RetryableError(
                "it was submitted with another OPENAI_API_KEY or OPENAI_BASE_URL: restart the workers with those"
            )
        return False

    def collectable(self) -> list[Submission]:
        """Return the submissions that have ended and aren't closed: also those whose collector died."""
        return self._in_state("ended")

    def collect(self, submission: Submission) -> list[Collected]:
        """Return the end of each job of a submission that has ended. It can be repeated, and costs nothing.

        Raises:
            RetryableError, RefusedError: the results can't be read now.
        """
        contents = [self.provider.content(each) for each in submission.output_ids]
        return results.collected(submission.jobs, contents, submission.verdict or "ended")

    def close(self, submission: Submission) -> None:
        """Close a submission whose results are recorded as written, and delete its files: they hold conversations."""
        for each in (submission.file_id, *submission.output_ids):
            with suppress(ScorerError):  # the provider deletes them by itself after a while
                if each is not None:
                    self.provider.delete(each)
        with self._engine.begin() as connection:
            ledger.close(connection, submission.id)

    def open_submissions(self) -> list[Submission]:
        """Return the slot's submissions that aren't closed or given up."""
        states: tuple[ledger.State, ...] = ("submitting", "submitted", "ended")
        return [each for state in states for each in self._in_state(state)]

    def _make(self, submission: str, content: bytes) -> None:
        file_id = self.provider.upload(_file_name(submission), content)
        with self._engine.begin() as connection:
            going_on = ledger.uploaded(connection, submission, file_id)
        if not going_on:  # given up by `recover`: it took this worker for dead
            self.provider.delete(file_id)
            return
        batch = self.provider.create(file_id, f"/v1{self._dialect.path}", submission)
        with self._engine.begin() as connection:
            ledger.submitted(connection, submission, batch.id)

    def _recovered(self, submission: Submission) -> Submission:
        found = self.provider.find(submission.id)
        if found is None:
            # Without its file, no batch can be created any more; one that was created just now is found below.
            for file_id in {*self.provider.files(_file_name(submission.id)), submission.file_id} - {None}:
                self.provider.delete(str(file_id))
            found = self.provider.find(submission.id)
        with self._engine.begin() as connection:
            if found is None:
                self._give_up(connection, submission, "unmade")
            else:
                ledger.submitted(connection, submission.id, found.id)
        return self._read(submission.id)

    def _give_up_unmade(self, submission: str) -> None:
        made = self._read(submission)
        if made.file_id is not None:
            with suppress(ScorerError):
                self.provider.delete(made.file_id)
        with self._engine.begin() as connection:
            self._give_up(connection, made, "unmade")

    def _give_up(self, connection: Connection, submission: Submission, state: Literal["unmade", "lost"]) -> bool:
        changed = ledger.give_up(connection, submission.id, state)
        if changed:
            self._let_go(connection, submission)
        return changed

    def _lines(self, conversations: Sequence[Conversation]) -> dict[str, tuple[bytes, Usage]]:
        """Return each job's line of the file with its bound, as many as fit into one submission."""
        lines: dict[str, tuple[bytes, Usage]] = {}
        size = 0
        for each in conversations[:MOST_REQUESTS]:
            body = self._body(each)
            request = {"custom_id": each.job, "method": "POST", "url": f"/v1{self._dialect.path}", "body": body}
            line = json.dumps(request, ensure_ascii=False).encode() + b"\n"
            size += len(line)
            if size > MOST_BYTES:
                break
            lines[each.job] = line, requests.upper_bound(body, self._settings.openai_max_output_tokens)
        return lines

    def _body(self, conversation: Conversation) -> requests.Body:
        return self._dialect.body(self._prompt.messages(conversation), self._settings)

    def _in_state(self, state: ledger.State) -> list[Submission]:
        with self._engine.begin() as connection:
            return ledger.in_state(connection, self._place, state)

    def _read(self, submission: str) -> Submission:
        with self._engine.begin() as connection:
            return ledger.read(connection, submission)


def _file_name(submission: str) -> str:
    return f"{submission}.jsonl"


def _sum(bounds: Iterable[Usage]) -> Usage:
    listed = list(bounds)
    return Usage(sum(each.input_tokens for each in listed), sum(each.output_tokens for each in listed))
