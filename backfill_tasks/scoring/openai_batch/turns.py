"""The scorer `openai-batch`: what a slot's turn does with the slot's submission.

A slot has one submission at a time. A turn claims jobs and submits them, or asks the provider how far it is, or writes
the results; then it comes back later. Each turn is short, so no worker waits for the provider.

While the provider works on them, the jobs stay RUNNING, held by the submission with a lock that is dated 30 hours
ahead: neither the host's runner nor another scorer claims or releases them, whatever becomes of our workers. Each step
changes the jobs, the budget and the submission in one transaction, so a kill leaves all three as they were before it.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from backfill_tasks import settings as configuration
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring import claims, prices, prompt, reading, spend
from backfill_tasks.scoring.claims import LEASE_SECONDS, Claims, Job, Result
from backfill_tasks.scoring.contract import Conversation, RefusedError, RetryableError, Score, Unscored, Usage
from backfill_tasks.scoring.openai import requests
from backfill_tasks.scoring.openai_batch import ledger
from backfill_tasks.scoring.openai_batch.ledger import Place, Submission
from backfill_tasks.scoring.openai_batch.results import Back, Collected
from backfill_tasks.scoring.openai_batch.scorer import MOST_REQUESTS, BatchScorer
from backfill_tasks.scoring.reading import Disqualified
from backfill_tasks.scoring.sessions import STALE_SECONDS
from backfill_tasks.scoring.spend import Bill
from backfill_tasks.scoring.turn import IDLE_SECONDS, LONGEST_BACKOFF, DeferredScorer, Ending, Turn
from backfill_tasks.scoring.writing import Writer
from backfill_tasks.scoring.written import NOTHING, Written
from backfill_tasks.settings import Settings

#: The shortest and the longest wait between two questions to the provider, in seconds; in between, a twentieth of the
#: submission's age.
_SHORTEST_POLL, _LONGEST_POLL, _POLLS = 2.0, 60.0, 20.0

#: The longest wait after the provider couldn't be asked, in seconds: longer than that, a slot counts as stalled.
_LONGEST_WAIT = 60.0


class OpenAIBatch(DeferredScorer):
    """The scorer `openai-batch`. Its settings are read when it is created.

    Raises:
        ConfigurationError: OPENAI_API_KEY isn't set.
    """

    name = "openai-batch"
    jobs_per_batch = MOST_REQUESTS
    has_batch_price = True

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = configuration.load() if settings is None else settings
        if not self._settings.openai_api_key:
            raise ConfigurationError(
                "OPENAI_API_KEY is not set, and the scorer openai-batch needs it: set it where the workers run"
            )

    @property
    def model(self) -> str:
        """The model that is paid for."""
        return self._settings.openai_model

    def estimate(self, conversation: Conversation) -> Usage:
        """Return about what one request for this conversation takes."""
        messages = prompt.load(self._settings.prompt_file).messages(conversation)
        return requests.expected(
            requests.DIALECTS[self._settings.openai_api].body(messages, self._settings), self._settings
        )

    def take(self, turn: Turn) -> Ending:
        """Submit, poll or collect."""
        return _SlotTurn(turn, self._settings).take()


class _SlotTurn:
    """One turn of one slot."""

    def __init__(self, turn: Turn, settings: Settings) -> None:
        self._turn = turn
        self._begun = turn.begun
        self._is_broke = False
        self._leased: set[str] = set()
        self._released = NOTHING
        place = Place(turn.message.session, turn.message.slot)
        self._scorer = BatchScorer(turn.engine, settings, place, lapses=LEASE_SECONDS, let_go=self._let_go)
        self._held = Claims(turn.schema, turn.message.holder, turn.lock_ms)

    def take(self) -> Ending:
        try:
            ending = self._go_on()
        except RetryableError as error:
            wait = min(_LONGEST_WAIT, max(error.after or 0.0, _LONGEST_POLL / 4))
            ending = Ending(delay=wait, reason=f"the provider can't be asked: {error}", failing=self._begun.failing)
        except RefusedError as error:
            why = f"the provider refuses: {error}"
            ending = Ending(delay=_LONGEST_WAIT, reason=why, state="stopped", failing=self._begun.failing)
        return self._with_what_is_open(ending)

    def _go_on(self) -> Ending:
        """Go on with the slot's submission; without one, claim jobs and submit them."""
        unmade = [each for each in self._scorer.recover() if each.state == "unmade"]
        polled = self._scorer.poll()
        written = NOTHING
        failed = None
        for each in self._scorer.collectable():
            done = self._collect(each)
            written += done
            failed = failed or self._why_failed(each, done)
        waiting = self._scorer.open_submissions()
        if waiting:
            return Ending(written, _poll_after(waiting[0]), failing=self._begun.failing)
        if unmade or failed is not None or any(each.state == "lost" for each in polled):
            failing = self._begun.failing + 1
            why = failed or ("a submission was never made" if unmade else "the provider has lost a batch")
            return Ending(written, min(LONGEST_BACKOFF, 2.0 ** min(failing, 10)), f"{why}: its jobs go back", failing)
        if written != NOTHING:
            return Ending(written)
        if self._begun.state != "running":
            return Ending(state=self._begun.state)
        return self._submit()

    def _why_failed(self, submission: Submission, written: Written) -> str | None:
        """Return why a submission brought nothing; None: it brought results, or the operator has cancelled it."""
        if submission.unwanted or submission.written or written.scored or written.unchanged:
            return None
        return (
            f"the provider's batch of {len(submission.bounds):,} requests ({submission.verdict}) brought no result; if"
            " the provider's queue is too full for it, use a smaller --batch or --parallel"
        )

    # ---- submit

    def _submit(self) -> Ending:
        # After a failure, fewer: the provider limits what one account may have in its queue.
        most = max(1, self._begun.batch >> self._begun.failing)
        with self._turn.engine.begin() as connection:
            jobs = self._held.claim(connection, most)
        if not jobs:
            return self._idle()
        with self._turn.engine.begin() as connection:
            found = reading.read(connection, self._turn.schema, jobs)
        wanted = [each for each in found.values() if isinstance(each, Conversation)]
        try:
            submission = self._scorer.submit(wanted, self._admit) if wanted else None
        except RefusedError:
            self._released += self._write_the_rest(jobs, found)
            raise
        written = self._write_the_rest(jobs, found)
        if submission is not None:
            return Ending(written, _poll_after(submission), failing=self._begun.failing)
        if self._is_broke:
            return self._without_money(written)
        return Ending(written, failing=self._begun.failing)

    def _write_the_rest(self, jobs: Sequence[Job], found: Mapping[str, Conversation | Disqualified]) -> Written:
        """End or give back the claimed jobs that no submission has."""
        rest = [job for job in jobs if job.id not in self._leased]
        results = [reading.at_once(job, found.get(job.id)) or Result(job.id, "back") for job in rest]
        return Writer(self._turn.engine, self._held).write(results) if results else NOTHING

    def _admit(self, connection: Connection, submission: str, bounds: Mapping[str, Usage]) -> Mapping[str, int]:
        """Reserve the money of as many requests as the budget covers, and pass their jobs on to the submission."""
        costs = {job: prices.cost(self._scorer.model, most, batch=True) for job, most in bounds.items()}
        holder = claims.submission_holder(submission)
        fitting = spend.reserve(connection, self._turn.message, self._scorer.model, list(costs.values()), holder=holder)
        self._is_broke = bool(costs) and fitting == 0
        self._leased = self._held.lease(connection, list(costs)[:fitting], submission)
        if not self._leased:
            spend.settle(connection, holder, Bill(0, 0, Usage()))
        return {job: cost for job, cost in costs.items() if job in self._leased}

    def _idle(self) -> Ending:
        with self._turn.engine.begin() as connection:
            left = not self._begun.until_done or claims.any_left(connection, self._turn.schema)
        if left:
            return Ending(delay=IDLE_SECONDS, reason="no job of ours can be claimed now", failing=self._begun.failing)
        return Ending(reason="every job of ours has ended", state="complete")

    def _without_money(self, written: Written) -> Ending:
        with self._turn.engine.begin() as connection:
            waits = spend.any_in_flight(connection, self._turn.message.session, stale_seconds=STALE_SECONDS)
        if waits:
            return Ending(written, _LONGEST_POLL / 4, "the budget is reserved for requests at the provider")
        return Ending(written, reason="the budget doesn't cover another request", state="exhausted")

    # ---- collect

    def _collect(self, submission: Submission) -> Written:
        """Write the results of a submission that has ended, settle its budget, and close it."""
        written = NOTHING
        if not submission.written:
            found = self._scorer.collect(submission)
            bill = _bill(self._scorer.model, found, submission)

            ambiguous = sum(each.usage is None for each in found)

            def record(connection: Connection) -> None:
                if ledger.written(connection, submission.id, ambiguous):
                    spend.settle(connection, claims.submission_holder(submission.id), bill)

            held = self._claims_of(submission)
            written = Writer(self._turn.engine, held).write([_result(each) for each in found], record)
        self._scorer.close(submission)
        return written

    def _let_go(self, connection: Connection, submission: Submission) -> None:
        """Give the jobs back of a submission that was never made, or that the provider has lost."""
        made = submission.provider_id is not None
        lost = Back("the provider has lost the batch, and may bill it", tried=True)
        unmade = Back("its submission was never made", tried=False)
        back = [Collected(job, lost if made else unmade, None if made else Usage()) for job in submission.bounds]
        bill = _bill(self._scorer.model, back, submission)
        self._released += self._claims_of(submission).finish(connection, [_result(each) for each in back])
        spend.settle(connection, claims.submission_holder(submission.id), bill)

    def _claims_of(self, submission: Submission) -> Claims:
        return Claims(self._turn.schema, claims.submission_holder(submission.id), self._turn.lock_ms)

    def _with_what_is_open(self, ending: Ending) -> Ending:
        """Return the ending with what was given back, and with whether the provider still has something of the slot."""
        return Ending(
            ending.written + self._released,
            ending.delay,
            ending.reason,
            ending.failing,
            ending.state,
            is_open=bool(self._scorer.open_submissions()),
        )


def _poll_after(submission: Submission) -> float:
    """Return after how many seconds to ask again: soon at first, because small batches take minutes."""
    return min(_LONGEST_POLL, max(_SHORTEST_POLL, submission.seconds / _POLLS))


def _result(collected: Collected) -> Result:
    """Return how the job of a request ends."""
    match collected.outcome:
        case Score() as score:
            return Result(collected.job, "scored", score)
        case Unscored():
            return Result(collected.job, "unchanged")
        case Back(why, tried):
            return Result(collected.job, "failed" if tried else "back", error=why if tried else None)


def _bill(model: str, found: Sequence[Collected], submission: Submission) -> Bill:
    """Add up what requests cost: by their usage or, where it is unknown, by what was reserved for them."""
    known = {each.job: each.usage for each in found if each.usage is not None}
    unknown = sum(submission.bounds[each.job] for each in found if each.usage is None)
    answered = [job for job, usage in known.items() if usage != Usage()]
    return Bill(
        spent=sum(prices.cost(model, each, batch=True) for each in known.values()) + unknown,
        unknown=unknown,
        usage=Usage(
            sum(each.input_tokens for each in known.values()), sum(each.output_tokens for each in known.values())
        ),
        answered=len(answered),
        estimated=sum(submission.estimates[job] for job in answered),
    )
