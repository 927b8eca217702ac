"""kombu's Redis transport, hardened: no passing fault and no junk message ends a worker or stops it consuming.

Every connection of the app uses it, because it replaces kombu's transport for redis:// and rediss:// URLs.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import Empty
from time import time
from typing import Any, Literal, TypeVar

from celery.app import amqp
from celery.utils.log import get_logger
from celery.worker import state
from kombu import connection
from kombu.asynchronous import get_event_loop
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from backfill_tasks import settings
from backfill_tasks.engine.redis_client import is_wrong_type, lua
from backfill_tasks.errors import MalformedError
from backfill_tasks.escaping import shown
from backfill_tasks.worker import envelope
from backfill_tasks.worker.dead_letters import DeadLetter, DeadLetters, Taken, flush, waiting
from backfill_tasks.worker.impatience import impatient

logger = get_logger(__name__)

T = TypeVar("T")

#: The fate of a message that a worker took: done, or requeued to be taken first, or last.
Fate = Literal["done", "first", "last"]

#: Messages whose fate Redis hasn't been told, by delivery tag. They belong to the process: a channel ends with its
#: connection, and any later channel can tell Redis.
_untold: dict[str, Fate] = {}

#: Those of them that Redis has failed to accept once.
_refused: set[str] = set()

#: How long an acknowledgement may wait to be told together with the next message, in seconds.
_TOGETHER_SECONDS = 0.01


class QoS(redis.QoS):
    """The messages that this worker has taken and not yet acknowledged.

    kombu tells Redis first and then frees the message's prefetch slot. If Redis doesn't answer, kombu logs that and
    never frees the slot: a worker that has lost all its slots takes no more messages. This class frees the slot first,
    and tells Redis again, every `unacked_restore_interval` and over any open connection, until Redis has accepted.
    Telling Redis twice is harmless.

    The end of one page is usually followed by the next message at once. The acknowledgement waits for it for up to 10
    ms, so that Redis is told of both in one round trip.

    Weakness: a process that ends before Redis has accepted leaves its messages in `unacked`. They are redelivered after
    the visibility timeout, and the fence drops the pages that are done.
    """

    def ack(self, delivery_tag: str) -> None:
        """Free the message's slot and remove the message."""
        self._settle(delivery_tag, "done")

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  kombu's signature
        """Free the message's slot, and remove the message or requeue it behind all others."""
        self._settle(delivery_tag, "last" if requeue else "done")

    def restore_unacked(self, client: Any = None) -> None:  # noqa: ARG002  kombu's signature
        """Requeue all unacknowledged messages, because the channel closes."""
        _untold.update(dict.fromkeys(self._delivered, "first"))
        self._delivered.clear()
        self._tell()

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Tell Redis what it hasn't heard, then run kombu's own sweep; kombu calls this from a timer."""
        if self._tell():  # the keys of the unacknowledged messages may have a wrong type
            self.channel.mended([], partial(super().restore_visible, *args, **kwargs))

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message as taken, and tell Redis what it hasn't heard in the same round trip.

        Not in a transaction. If Redis ends in between, the worst that is left is an index entry without its message,
        which kombu ignores.
        """
        delivery = message.delivery_info
        taken = json.dumps([message._raw, delivery["exchange"], delivery["routing_key"]])  # noqa: SLF001
        done = [tag for tag, fate in _untold.items() if fate == "done"]
        with self.channel.conn_or_acquire() as client:
            calls = client.pipeline(transaction=False)
            calls.zadd(self.unacked_index_key, {delivery_tag: time()}).hset(self.unacked_key, delivery_tag, taken)
            self._remove(calls, done)
            calls.execute()
        _forget(done)
        virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Tell Redis what it hasn't heard and requeue the rest; kombu calls this when the channel closes."""
        if _untold:
            self._tell()
        super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call]

    def _settle(self, delivery_tag: str, fate: Fate) -> None:
        virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
        others_wait = bool(_untold)
        _untold[delivery_tag] = fate
        # A worker that stops has no next message, and its loop no next turn.
        loop = get_event_loop() if fate == "done" and state.should_stop is None else None
        if loop is None and not _refused:
            self._tell()
        # While Redis is silent, each attempt would block the worker's loop until it times out: the timer's attempts are
        # enough.
        elif loop is not None and not others_wait:
            loop.call_later(_TOGETHER_SECONDS, self._tell)  # type: ignore[no-untyped-call]

    def _tell(self) -> bool:
        """Tell Redis the fate of all messages that it hasn't heard about; return False if it didn't answer."""
        transport = self.channel.connection
        if transport is None or transport.client is None:  # its connection is gone: a later channel tells Redis
            return False
        # The watchdog's thread closes a channel of its own and tells Redis, too: both may tell it the same fate.
        owed = dict(_untold)
        try:
            with self.channel.conn_or_acquire() as client:
                done = [tag for tag, fate in owed.items() if fate == "done"]
                calls = client.pipeline(transaction=False)
                self._remove(calls, done)
                calls.execute()
                _forget(done)
                for tag, fate in owed.items():
                    if fate != "done":
                        self.restore_by_tag(tag, client, leftmost=fate == "last")
                        _forget([tag])
        except (RedisError, OSError) as error:
            acknowledgements = "1 acknowledgement" if len(_untold) == 1 else f"{len(_untold)} acknowledgements"
            logger.warning("Redis didn't accept %s. The worker continues and repeats them: %s", acknowledgements, error)
            _refused.update(_untold)
            return False
        return True

    def _remove(self, calls: Any, tags: list[str]) -> None:
        """Add the removal of messages that are done to a pipeline."""
        if tags:
            calls.hdel(self.unacked_key, *tags).zrem(self.unacked_index_key, *tags)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002
        """Requeue a message. An entry of `unacked` that is not a valid message is parked."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except (MalformedError, ValueError, TypeError, RecursionError) as error:
            self.channel.park_taken(tag, f"an entry of {self.unacked_key} is not a valid message: {error}")


def _forget(tags: Sequence[str]) -> None:
    """Forget messages whose fate Redis has accepted."""
    repeated = _refused.intersection(tags)
    if repeated:
        logger.info("Redis has accepted %d repeated acknowledgements", len(repeated))
    _refused.difference_update(tags)
    for tag in tags:
        _untold.pop(tag, None)


class Channel(redis.Channel):
    """A channel that keeps unacknowledged messages in our QoS and parks junk messages.

    A key whose type in Redis is wrong is moved to `backfill:set-aside:KEY`.
    """

    QoS = QoS

    #: The client for single calls, with the pool that it takes its connections from.
    _caller: tuple[Any, Any] | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002  kombu's signature
        """Return a client. kombu makes one for each call, which takes as long as the call itself."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        if self._caller is None or self._caller[0] is not self.pool:
            self._caller = (self.pool, super()._create_client())  # type: ignore[no-untyped-call]
        return self._caller[1]

    def _connparams(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the connection parameters. A closed channel is a lost connection: the publisher opens another.

        kombu's producer keeps using its channel after declaring a queue, although the declaration may have lost the
        connection and opened a new one.

        Raises:
            RedisConnectionError: the channel is closed.
        """
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the channel was closed with its connection")
        found: dict[str, Any] = super()._connparams(*args, **options)  # type: ignore[no-untyped-call]
        return {**found, "connection_class": impatient(found["connection_class"])}

    def park(self, message: virtual.Message, reason: str) -> None:
        """Park a message that this worker has taken, and free its slot."""
        queue = message.delivery_info.get("routing_key", "")
        self._park(DeadLetter.of(json.dumps(message._raw), queue, reason), message.delivery_tag)  # noqa: SLF001

    def park_taken(self, tag: bytes | str, reason: str) -> None:
        """Park the entry of `unacked` under a delivery tag."""
        with self.conn_or_acquire() as client:
            raw = client.hget(self.unacked_key, tag) or b""
        self._park(DeadLetter.of(raw, self.unacked_key, reason), tag)

    def _park(self, letter: DeadLetter, tag: bytes | str | None = None) -> None:
        logger.error("message parked in the dead letters: %s", letter)
        waiting.append((letter, Taken(self.unacked_key, self.unacked_index_key, tag) if tag else None))
        if tag in self.qos._delivered:  # noqa: SLF001  kombu counts the slots here
            virtual.QoS.ack(self.qos, tag)  # type: ignore[no-untyped-call]
        self._park_what_waits()

    def _park_what_waits(self) -> None:
        try:
            with self.conn_or_acquire() as client:
                flush(DeadLetters(client, settings.load().queue))
        except (RedisError, OSError) as error:
            logger.warning("Redis didn't accept a dead letter. The worker keeps it and tries again: %s", error)

    def _brpop_read(self, **options: Any) -> bool:
        """Read BRPOP's response: kombu's own method, except that junk doesn't reach the worker's loop."""
        try:
            found = self._answer(options)
            if waiting:
                self._park_what_waits()
            if not found:
                raise Empty
            key, raw = found
            queue = _text(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._take(raw, queue)
            return True
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]

    def _answer(self, options: dict[str, Any]) -> Any:
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except ResponseError as error:
            self._set_aside(error, self.active_queues)
            return None
        except self.connection_errors:
            self.client.connection.disconnect()
            raise

    def _take(self, raw: bytes, queue: str) -> None:
        try:
            message = envelope.read(raw)
        except MalformedError as error:
            self._park(DeadLetter.of(raw, queue, str(error)))
        else:
            self.mended([], partial(self.connection._deliver, message, queue))  # noqa: SLF001

    def _handle_message(self, client: Any, r: Any) -> dict[str, Any]:
        """Read a message from the pub/sub connection. Junk is dropped: each worker has a copy, and no work is lost."""
        found: dict[str, Any] = super()._handle_message(client, r)  # type: ignore[no-untyped-call]
        if _text(found["type"]).endswith("message"):
            try:
                found["channel"].decode()
                envelope.read(found["data"])
            except (MalformedError, UnicodeDecodeError) as error:
                logger.error("invalid broadcast dropped: %s: %s", shown(repr(found["channel"])), error)  # noqa: TRY400
                return {"type": "junk"}
        return found

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        """Pass a broadcast on to Celery's code, which trusts its content."""
        try:
            return bool(super()._deliver_fanout_message(message, exchange))  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  no message may end the worker
            logger.error("invalid broadcast dropped: %s: %s", shown(exchange), shown(repr(error)))  # noqa: TRY400
            return False

    def _do_restore_message(self, payload: Any, exchange: Any, routing_key: Any, *args: Any, **options: Any) -> None:
        """Requeue a message. Raise MalformedError if it is invalid: kombu would drop it."""
        if not (isinstance(exchange, str) and isinstance(routing_key, str)):
            raise MalformedError("its exchange or routing key is not a string")
        envelope.require(payload)
        super()._do_restore_message(payload, exchange, routing_key, *args, **options)  # type: ignore[no-untyped-call]

    def basic_publish(self, message: Any, exchange: Any, routing_key: Any, **options: Any) -> Any:
        """Publish a message. A closed channel counts as a lost connection, so kombu reconnects and then publishes.

        If the connection breaks while kombu declares the queue, kombu opens another one but publishes over the channel
        that it has closed. Without this check, that was an AttributeError, and the next page was never sent.
        """
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the channel was closed with its connection")
        return super().basic_publish(message, exchange, routing_key, **options)  # type: ignore[no-untyped-call]

    # ---- keys of a wrong type

    def _size(self, queue: str) -> int:
        return int(self.mended([queue], partial(super()._size, queue)))

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        self.mended([queue], partial(super()._put, queue, message, **options))

    def _queue_bind(self, exchange: str, *args: Any) -> None:
        self.mended([], partial(super()._queue_bind, exchange, *args))

    def mended(self, queues: Iterable[str], call: Callable[[], T]) -> T:
        """Make a call; if a key has a wrong type, set it aside and call again."""
        try:
            return call()
        except ResponseError as error:
            self._set_aside(error, queues)
            return call()

    def _set_aside(self, error: ResponseError, queues: Iterable[str]) -> None:
        """Move keys of a wrong type out of the way: those of these queues and kombu's own. Re-raise any other error."""
        if not is_wrong_type(error):
            raise error
        with self.conn_or_acquire() as client:
            set_aside = client.register_script(lua("set_aside"))
            for key, kind in self._types(queues):
                moved = f"backfill:set-aside:{key}"
                was = set_aside(keys=[key, moved], args=[kind])
                if was:
                    reason = f"the key was a {_text(was)}, not a {kind}: it is now {shown(moved)}"
                    self._park(DeadLetter.of("", key, reason))

    def _types(self, queues: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield each key that kombu uses for these queues, with the type that it must have."""
        for queue in queues:
            for priority in self.priority_steps:
                yield self._q_for_pri(queue, priority), "list"  # type: ignore[no-untyped-call]
        yield from ((self.unacked_key, "hash"), (self.unacked_index_key, "zset"))
        for exchange in self.get_exchanges():  # type: ignore[no-untyped-call]
            yield from ((each % exchange, "set") for each in (self.keyprefix_queue, self.keyprefix_binding_permanent))


def _text(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name


class Transport(redis.Transport):
    """kombu's transport with our channel.

    An error response from Redis counts as a passing fault, like a lost connection: Redis is a replica for the moment,
    is out of memory, can't save, is loading, or its password is being changed. kombu wraps some responses in an
    OperationalError.
    """

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError, OperationalError)


class Connection(connection.Connection):
    """kombu's connection, with at most 3 seconds between attempts: kombu's own backoff grows to 30."""

    def ensure_connection(
        self, errback: Any = None, max_retries: int | None = None, **options: Any
    ) -> connection.Connection:
        """Connect, however long it takes; used by a worker's consumer and by beat."""
        waits = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 3}
        connected: connection.Connection = super().ensure_connection(errback, max_retries, **waits, **options)  # type: ignore[no-untyped-call]
        return connected


class AMQP(amqp.AMQP):  # type: ignore[misc]  # Celery has no types
    """Celery's connection factory, which creates our Connection."""

    Connection = Connection


def install() -> None:
    """Use this transport for every connection that is opened from now on."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
