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
from collections.abc import Iterable, Sequence
from contextlib import suppress

from sqlalchemy import Engine

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring import prompt
from backfill_tasks.scoring.contract import Conversation, RefusedError, ScorerError, Usage
from backfill_tasks.scoring.openai import requests
from backfill_tasks.scoring.openai_batch import ledger, results
from backfill_tasks.scoring.openai_batch.ledger import Submission
from backfill_tasks.scoring.openai_batch.provider import ENDED, Provider
from backfill_tasks.scoring.openai_batch.results import Collected
from backfill_tasks.settings import Settings

#: The most requests and bytes of one submission: far below the provider's limits, because a worker holds it in memory.
MOST_REQUESTS, MOST_BYTES = 2_000, 50_000_000

#: A submission that hasn't changed for so many seconds has lost its worker: no single step takes as long.
QUIET_SECONDS = 600.0


class BatchScorer:
    """Scores claimed conversations through the provider's Batch API.

    Several workers may call every method at once. The caller keeps the claims of the jobs in `open_jobs` alive, and
    writes results before it calls `close`. Costs are at the price of the Batch API: `prices.cost(…, batch=True)`.

    Raises:
        ConfigurationError: OPENAI_API_KEY isn't set, or the prompt file is invalid.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        if not settings.openai_api_key:
            raise ConfigurationError("OPENAI_API_KEY is not set, and scoring in batches needs it")
        self._engine = engine
        self._settings = settings
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

    def upper_bound(self, conversation: Conversation) -> Usage:
        """Return the most tokens that the one request for this conversation can use."""
        return requests.upper_bound(self._body(conversation), self._settings.openai_max_output_tokens)

    def submit(self, conversations: Sequence[Conversation]) -> Submission | None:
        """Submit conversations, and return the submission; None: all of them are in others already.

        A conversation that doesn't fit, or is in another open submission, isn't among the submission's jobs. If the
        provider fails in a passing way, the submission stays `submitting`, for `recover`.

        Raises:
            RefusedError: the provider refuses the submission; it is unmade.
        """
        lines = self._lines(conversations)
        submission = f"backfill-{secrets.token_hex(12)}"
        with self._engine.begin() as connection:
            jobs = ledger.record(connection, submission, self._account, self.model, list(lines))
            taken = {job: lines[job] for job in jobs}
            ledger.bound(connection, submission, len(taken), _sum(bound for _, bound in taken.values()))
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

    def recover(self, *, quiet_seconds: float = QUIET_SECONDS) -> list[Submission]:
        """Finish the submissions whose worker died while it made them, and return them.

        Each is `submitted` or `unmade` afterwards; the jobs of an unmade one go back to the queue.

        Raises:
            RetryableError, RefusedError: the provider can't be asked; the rest is recovered later.
        """
        return [self._recovered(each) for each in self._in_state("submitting", quiet_seconds)]

    def poll(self) -> list[Submission]:
        """Ask for all submitted batches, and return those that have just ended, or that the provider has lost.

        Raises:
            RetryableError, RefusedError: the provider can't be asked.
        """
        found: list[Submission] = []
        for each in self._in_state("submitted"):
            assert each.provider_id is not None  # noqa: S101  the state says so
            batch = self.provider.retrieve(each.provider_id)
            with self._engine.begin() as connection:
                if batch is None:
                    changed = ledger.give_up(connection, each.id, "lost")
                else:
                    over = batch.status in ENDED
                    changed = over and ledger.ended(connection, each.id, batch.status, batch.file_ids)
            if changed:
                found.append(self._read(each.id))
        return found

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
        """Close a submission whose results are written, and delete its files, which hold conversations."""
        with self._engine.begin() as connection:
            ledger.close(connection, submission.id)
        for each in (submission.file_id, *submission.output_ids):
            with suppress(ScorerError):  # the provider deletes them by itself after a while
                if each is not None:
                    self.provider.delete(each)

    def cancel(self, submission: Submission) -> None:
        """Ask the provider to cancel a submitted batch; it ends within minutes, with what it has done until then.

        Raises:
            RetryableError, RefusedError: the provider can't be asked.
        """
        if submission.provider_id is not None:
            self.provider.cancel(submission.provider_id)

    def open_jobs(self) -> set[str]:
        """Return the jobs in open submissions, whose claims must be kept alive."""
        states: tuple[ledger.State, ...] = ("submitting", "submitted", "ended")
        return {job for state in states for each in self._in_state(state) for job in each.jobs}

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
                ledger.give_up(connection, submission.id, "unmade")
            else:
                ledger.submitted(connection, submission.id, found.id)
        return self._read(submission.id)

    def _give_up_unmade(self, submission: str) -> None:
        with self._engine.begin() as connection:
            ledger.give_up(connection, submission, "unmade")
        file_id = self._read(submission).file_id
        if file_id is not None:
            with suppress(ScorerError):
                self.provider.delete(file_id)

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

    def _in_state(self, state: ledger.State, quiet_seconds: float = 0.0) -> list[Submission]:
        with self._engine.begin() as connection:
            return ledger.in_state(connection, self._account, state, quiet_seconds=quiet_seconds)

    def _read(self, submission: str) -> Submission:
        with self._engine.begin() as connection:
            return ledger.read(connection, submission)


def _file_name(submission: str) -> str:
    return f"{submission}.jsonl"


def _sum(bounds: Iterable[Usage]) -> Usage:
    listed = list(bounds)
    return Usage(sum(each.input_tokens for each in listed), sum(each.output_tokens for each in listed))
