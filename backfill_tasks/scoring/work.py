"""The chain of a slot: do a batch, write its results, send the next.

A process may die between any two steps, and any message may be delivered twice. A batch begins once, by a
compare-and-set in the ledger. A claimed job that its batch never ends is released, and a slot whose chain is lost is
reseeded.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.chain import SendError
from backfill_tasks.engine.database import is_transient, quoted, reason
from backfill_tasks.engine.runs import new_id
from backfill_tasks.errors import BackfillError, BatchSendError, HostError, UsageError
from backfill_tasks.escaping import one_line, shown
from backfill_tasks.scoring import claims, prices, reading, sessions, spend
from backfill_tasks.scoring.batch import Answer, Batch, Pulse
from backfill_tasks.scoring.claims import Claims, Job, Result
from backfill_tasks.scoring.comparison import Comparer, Comparison
from backfill_tasks.scoring.contract import AnyScorer, Conversation, Scorer, Usage
from backfill_tasks.scoring.cost import Choice, CostForecast, Forecaster
from backfill_tasks.scoring.message import ScoreMessage, Send
from backfill_tasks.scoring.parameters import Parameters
from backfill_tasks.scoring.sessions import Begun, Session
from backfill_tasks.scoring.spend import Bill
from backfill_tasks.scoring.statements import LOCK_MS
from backfill_tasks.scoring.turn import IDLE_SECONDS, LONGEST_BACKOFF, DeferredScorer, Ending, Turn
from backfill_tasks.scoring.writing import Writer
from backfill_tasks.scoring.written import NOTHING, Written

logger = logging.getLogger(__name__)

#: How long a slot waits for the database, in seconds.
_DATABASE_SECONDS = 5.0

#: How many jobs a batch claims after one in which every request failed: enough to see whether the provider is back.
_PROBE = 1

#: The most characters of a reason in the ledger.
_MOST_REASON = 300

Outcome = Literal["done", "waits", "duplicate", "ended", "put off"]


@dataclass(frozen=True)
class Step:
    """The result of handling a message. `delay`: the caller sends the same message again, after so many seconds."""

    outcome: Outcome
    written: Written = NOTHING
    reason: str | None = None
    delay: float | None = None


@dataclass(frozen=True)
class Work:
    """Starts and stops sessions, does their batches, and looks after their slots."""

    engine: Engine
    schema: str
    scorers: Mapping[str, AnyScorer]
    send: Send
    lock_ms: int = LOCK_MS

    # ---- the commands

    def start(self, parameters: Parameters) -> str:
        """Start a session and send each slot's first message; return its id.

        Raises:
            UsageError: there is no such scorer, or another session is running.
            ConfigurationError: its model has no price.
            HostError: this role may not read the host's tables.
            BatchSendError: the session is in the ledger, but Redis failed; the watchdog goes on once it is back.
        """
        self._require_usable(parameters)
        session = str(new_id())
        self._require_rights()
        with self.engine.begin() as connection:
            first = sessions.create(connection, session, parameters)
        try:
            for message in first:
                self.send(message, 0.0)
        except (redis_client.RedisError, SendError) as error:
            raise BatchSendError(session, str(error)) from error
        return session

    def compare(self, parameters: Parameters, sample: int) -> Comparison:
        """Compare a scorer with existing scores, of at most `sample` leads of each workspace and score.

        Raises:
            UsageError: there is no such scorer.
            ConfigurationError: its model has no price.
            HostError: this role may not read the host's tables.
        """
        self._require_usable(parameters)
        self._require_rights()
        scorer, most = self.scorers[parameters.scorer], parameters.max_spend
        if not isinstance(scorer, Scorer):
            raise UsageError(
                f"--compare needs an answer at once, and {scorer.name} answers hours later: compare another scorer with"
                " the same prompt, such as openai"
            )
        return Comparer(self.engine, self.schema, scorer, sample, parameters.concurrency, most).compare()

    def forecast_cost(self, scorer: str, choice: Choice, leads: int, *, statement_ms: int) -> CostForecast:
        """Forecast what scoring so many of the chosen leads will cost.

        Raises:
            UsageError: there is no such scorer, or it doesn't say what a lead takes.
            ConfigurationError: its model has no price.
            HostError: this role may not read the host's tables.
        """
        found = self.scorers[scorer]
        prices.cost(found.model, Usage())
        self._require_rights()
        return Forecaster(self.engine, self.schema, found, statement_ms).forecast(choice, leads)

    def stop(self) -> tuple[Session, bool]:
        """Stop the newest session: batches in progress send no further request. Return it, and whether it ran.

        Its requests at a provider are cancelled, also if the session has ended by itself: what they have done by then
        is collected, and the other jobs are given back.

        Raises:
            UsageError: there is no session.
        """
        session = self.read().id
        with self.engine.begin() as connection:
            stopped = sessions.move(connection, session, "stopped", by="operator", reason="stopped by command")
            sessions.cancel_submissions(connection, session)
        return self.read(session), stopped

    def read(self, session: str | None = None) -> Session:
        """Return a session; by default the running one, or else the newest.

        Raises:
            UsageError: there is none.
        """
        with self.engine.begin() as connection:
            wanted = session or sessions.newest(connection)
            found = None if wanted is None else sessions.read(connection, wanted)
        if found is None:
            raise UsageError("nothing has been scored here yet: `backfill work` starts it")
        return found

    def watch_over(self, held: Callable[[], Collection[str]]) -> list[ScoreMessage]:
        """Release the jobs of batches that are gone, reseed slots that lost their chain, and return their messages.

        Args:
            held: returns the task ids of the messages that wait in a queue or are owned by a living worker. Called only
                if a slot shows no life.
        """
        with self.engine.begin() as connection:
            if sessions.newest(connection) is None:
                return []
            released = claims.release(connection, self.schema)
            claims.forget(connection)
            quiet = sessions.stalled(connection)
        if released:
            logger.warning("jobs released, because their holder is gone: %d", len(released))
        on_their_way = held() if quiet else ()
        lost = [
            last
            for last in quiet
            if not {last.task_id, replace(last, batch=last.batch + 1).task_id} & set(on_their_way)
        ]
        return [message for last in lost if (message := self._reseed(last)) is not None]

    def _reseed(self, last: ScoreMessage) -> ScoreMessage | None:
        with self.engine.begin() as connection:
            message = sessions.reseed(connection, last)
        if message is not None:
            self.send(message, 0.0)
            logger.warning("stalled scoring slot reseeded: session=%s slot=%d", message.session, message.slot)
        return message

    def _require_rights(self) -> None:
        """Refuse, before anything is written, a role that may not read what a scorer is given."""
        try:
            with self.engine.begin() as connection:
                reading.read(connection, self.schema, [])
        except DBAPIError as error:
            if is_transient(error):
                raise
            raise HostError(
                f"the conversations can't be read: {reason(error)}. Scoring needs GRANT SELECT ON"
                f' "Lead", "Message", "WorkspaceSettings" in schema {quoted(self.schema)}'
            ) from None

    def _require_usable(self, parameters: Parameters) -> None:
        """Refuse a scorer that isn't there or has no price, and one that costs money without a budget."""
        scorer = self.scorers[parameters.scorer]
        prices.cost(scorer.model, Usage())
        if scorer.model is not None and parameters.max_spend is None:
            raise UsageError(f"the scorer {scorer.name} costs money: set a budget with --max-spend, for example 25.00")

    # ---- a batch

    def step(self, message: ScoreMessage) -> Step:
        """Handle one message: do its batch if it is the slot's next, and send the following one.

        A database fault postpones the batch; one that no retry can cure stops the session, and the ledger says why.
        """
        try:
            with self.engine.begin() as connection:
                begun = sessions.begin(connection, message)
        except DBAPIError as error:
            return Step("put off", reason=reason(error), delay=_DATABASE_SECONDS)
        if begun is None:
            return Step("duplicate")
        ending = self._ending(message, begun)
        self._record(message, ending)
        if ending.state is not None and not ending.is_open:
            return Step("ended", ending.written, ending.reason)
        following = replace(message, batch=message.batch + 1)
        try:
            self.send(following, ending.delay)
        except SendError as error:
            logger.warning(
                "batch not sent, so the watchdog will reseed its slot: %s: %s", following.task_id, shown(str(error))
            )
        return Step("waits" if ending.reason else "done", ending.written, ending.reason)

    def _ending(self, message: ScoreMessage, begun: Begun) -> Ending:
        try:
            scorer = self.scorers[begun.scorer]
            prices.cost(scorer.model, Usage())
            if isinstance(scorer, DeferredScorer):
                turn = Turn(self.engine, self.schema, message, begun, self.lock_ms)
                with turn.beating():
                    return scorer.take(turn)
            assert isinstance(scorer, Scorer)  # noqa: S101  there is no third kind
            return self._do(message, begun, scorer)
        except BackfillError as error:
            return Ending(reason=str(error), state="stopped")
        except DBAPIError as error:
            if is_transient(error):
                return Ending(delay=_DATABASE_SECONDS, reason=reason(error), failing=begun.failing)
            return Ending(reason=reason(error), state="stopped")

    def _record(self, message: ScoreMessage, ending: Ending) -> None:
        """Record a batch's end. If the database is away, the counts of this batch are lost, and nothing else."""
        why = ending.reason and one_line(ending.reason, most=_MOST_REASON)
        try:
            with self.engine.begin() as connection:
                sessions.end(
                    connection, message, ending.written, delay=ending.delay, reason=why, failing=ending.failing
                )
                if ending.state is not None:
                    sessions.move(connection, message.session, ending.state, by="batch", reason=why or ending.state)
        except DBAPIError as error:
            logger.warning("the end of a batch is not in the ledger: %s: %s", message.task_id, reason(error))

    def _do(self, message: ScoreMessage, begun: Begun, scorer: Scorer) -> Ending:
        """Claim jobs, score them, and write the results."""
        held = Claims(self.schema, message.holder, self.lock_ms)
        with self.engine.begin() as connection:
            jobs = held.claim(connection, _PROBE if begun.failing else begun.batch)
        if not jobs:
            return self._idle(begun)
        try:
            return self._score(message, begun, scorer, held, jobs)
        except DBAPIError:
            self._give_back(held, jobs)
            raise

    def _idle(self, begun: Begun) -> Ending:
        with self.engine.begin() as connection:
            left = not begun.until_done or claims.any_left(connection, self.schema)
        if left:
            return Ending(delay=IDLE_SECONDS, reason="no job of ours can be claimed now", failing=begun.failing)
        return Ending(reason="every job of ours has ended", state="complete")

    def _score(self, message: ScoreMessage, begun: Begun, scorer: Scorer, held: Claims, jobs: Sequence[Job]) -> Ending:
        with self.engine.begin() as connection:
            found = reading.read(connection, self.schema, jobs)
        at_once = [reading.at_once(job, found.get(job.id)) for job in jobs]
        wanted = [each for each in found.values() if isinstance(each, Conversation)]
        bounds = [prices.cost(scorer.model, scorer.upper_bound(each)) for each in wanted]
        fitting = self._reserve(message, scorer.model, bounds)
        batch = Batch(scorer, wanted[:fitting], concurrency=begun.concurrency, beat=self._beat(message, held, jobs))
        answers = batch.run() if fitting else []
        results = [
            *(result for result in at_once if result is not None),
            *(answer.result for answer in answers),
            *(Result(each.job, "back") for each in wanted[fitting:]),
        ]
        reserved = {each.job: bound for each, bound in zip(wanted[:fitting], bounds, strict=False)}
        bill = _bill(scorer, answers, reserved, {each.job: each for each in wanted})

        def settle(connection: Connection) -> None:
            if scorer.model is not None:
                spend.settle(connection, held.holder, bill)

        written = Writer(self.engine, held).write(results, settle)
        return self._judge(message, begun, batch, answers, written, broke=bool(wanted) and not fitting)

    def _reserve(self, message: ScoreMessage, model: str | None, bounds: Sequence[int]) -> int:
        """Reserve the upper bounds of as many requests as the budget covers, and return their number."""
        if model is None or not bounds:
            return len(bounds)
        with self.engine.begin() as connection:
            return spend.reserve(connection, message, model, bounds)

    def _judge(
        self,
        message: ScoreMessage,
        begun: Begun,
        batch: Batch,
        answers: Sequence[Answer],
        written: Written,
        *,
        broke: bool,
    ) -> Ending:
        """Return how the slot goes on after a batch."""
        if batch.refusal is not None:
            return Ending(written, reason=f"the scorer refuses every request: {batch.refusal}", state="stopped")
        if broke:
            return replace(self._without_money(message.session), written=written)
        kinds = {answer.result.kind for answer in answers}
        if batch.failure is not None and (batch.tripped or not kinds & {"scored", "unchanged"}):
            failing = begun.failing + 1
            delay = min(LONGEST_BACKOFF, 2.0 ** min(failing, 10))
            return Ending(written, delay, f"requests fail one after another: {batch.failure}", failing)
        waits = [answer.result.wait for answer in answers if answer.result.wait]
        return Ending(written, min(LONGEST_BACKOFF, max(waits, default=0.0)))

    def _without_money(self, session: str) -> Ending:
        with self.engine.begin() as connection:
            waits = spend.any_in_flight(connection, session, stale_seconds=sessions.STALE_SECONDS)
        if waits:
            return Ending(delay=IDLE_SECONDS, reason="the budget is reserved for requests in flight")
        return Ending(reason="the budget doesn't cover another request", state="exhausted")

    def _beat(self, message: ScoreMessage, held: Claims, jobs: Sequence[Job]) -> Callable[[bool], Pulse]:
        def beat(renew: bool) -> Pulse:  # noqa: FBT001  the heartbeat's only argument
            with self.engine.begin() as connection:
                going_on = sessions.beat(connection, message)
                return Pulse(going_on, held.renew(connection, [job.id for job in jobs]) if renew else None)

        return beat

    def _give_back(self, held: Claims, jobs: Sequence[Job]) -> None:
        """Return claimed jobs untried; if that fails, they are released later."""
        try:
            with self.engine.begin() as connection:
                held.finish(connection, [Result(job.id, "back") for job in jobs])
        except DBAPIError as error:
            logger.warning("claimed jobs can't be given back, so the watchdog will release them: %s", reason(error))


def _bill(
    scorer: Scorer, answers: Sequence[Answer], bounds: Mapping[str, int], conversations: Mapping[str, Conversation]
) -> Bill:
    """Add up what requests cost: by their usage, or by their upper bound where the usage is unknown.

    A request of a dropped conversation has no answer, so its upper bound counts, too.
    """
    known = {answer.result.job: answer.usage for answer in answers if answer.usage is not None}
    certain = {answer.result.job for answer in answers if answer.usage is not None or not answer.sent}
    unknown = sum(bound for job, bound in bounds.items() if job not in certain)
    usage = Usage(sum(each.input_tokens for each in known.values()), sum(each.output_tokens for each in known.values()))
    estimates = [] if scorer.model is None else [scorer.estimate(conversations[job]) for job in known]
    return Bill(
        spent=sum(prices.cost(scorer.model, each) for each in known.values()) + unknown,
        unknown=unknown,
        usage=usage,
        answered=len(known),
        estimated=sum(each.input_tokens for each in estimates if each is not None),
    )
