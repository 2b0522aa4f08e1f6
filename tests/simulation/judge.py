"""Knows every observation, and holds each step of the daemons against what must follow from them.

What is observed is what the shop showed in an answer that was committed: of that nothing may be lost.
"""

import copy
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from shop_poller.core.attempts import DELIVERED, MOST_ATTEMPTS
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import event_id
from shop_poller.core.model import Page, Query
from shop_poller.core.retry import GiveUp, RetryAt
from shop_poller.ports import (
    Ack,
    Batch,
    DeliveryRecord,
    FinishedDelivery,
    MoveToDeadLetters,
    NewDelivery,
    Source,
)
from shop_poller.simulator.orders import SimulatedOrder
from simulation.places import Call, RedisPlace
from simulation.readers import MOSCOW
from support.oracle import PLACED, Oracle

if TYPE_CHECKING:
    from simulation.network import Receiver
    from simulation.processes import Process
    from simulation.world import World

MAY_PASS = {401, 403, 404, 405, 302}
"""A receiver that took something before has to say so for minutes before it is believed."""
FOR_GOOD = {code for code in range(400, 500) if code not in {408, 409, 425, 429}} - MAY_PASS
DOWN = {None, 408, 429, 502, 503, 504, 521}
REFUSED_FOR_S, REFUSED_TIMES = 300.0, 3
BACKOFF_BASE_S, BACKOFF_CAP_S = 30.0, 7200.0
PROBE_EVERY_S = 60.0
SWITCHING_S, SOON_S = 600.0, 5.0
"""For so long a server that takes no writes is probed so often: its address may lead to another one."""
MAX_PAUSE_S = 900.0
LATE_S = 10.0
SUMMARY = "alert:dead-letters:"
LEASE_KNOWN_S = 12.0
"""So long after its lease ended a process may not know it."""
TRIES = 3
UNDER_WAY_S = 60.0
"""So long an attempt may take that began before quiet hours."""
MUTED_SOON_S = 5.0
"""So soon after it was muted a receiver gets nothing more."""
BULK = 100
STALE_S, HEALTH_SLACK_S = 300.0, 30.0
SOON_AFTER_TRIGGER_S, PAUSED_S, OFF_GRID_S = 10.0, 120.0, 6.0
EXCUSED_S = 15.0
"""For so long nobody wonders that two ask a shop, after a state was set back or a process ran again."""


@dataclass
class Sent:
    """A notification on its way to a receiver, alone or with others."""

    process: "Process"
    leader_session: int
    sink: str
    key: str
    event_id: str
    body: bytes
    at_step: int


@dataclass
class Due:
    """What one sink has to be told.

    Attributes:
        acked_step: when the store was told that it was; None if it was not.
        attempts: those that the store was told of: the kind, and the HTTP status, of each.
        is_set_back: the store was set back while it waited, so that the store may know of more or fewer.
    """

    event_id: str
    acked_step: int | None = None
    attempts: list[tuple[str, int | None]] = field(default_factory=list)
    is_set_back: bool = False
    is_dead_letter: bool = False
    owed_at: float = 0.0


@dataclass
class Claims:
    """What a process holds of one sink, and how that fares."""

    held: dict[int, str] = field(default_factory=dict)
    in_flight: int = 0
    failures: int = 0
    failed_at: float = -1e9


@dataclass
class Sight:
    """An answer: what was asked, and the orders that the source read from it, as the shop had them.

    Attributes:
        is_end: it is empty, and the shop tells of no more pages.
        disturbances: how many there were when it came.
        dated: refunds whose dates the shop's list of refunds showed before.
    """

    query: Query
    readable: Sequence[SimulatedOrder]
    is_end: bool
    disturbances: int
    dated: frozenset[int] = frozenset()


class Judge:
    """See the module's docstring."""

    def __init__(self, world: "World") -> None:
        self.verdicts: list[str] = []
        self.crashes: list[str] = []
        self.oracle: Oracle | None = None
        self.lines: dict[tuple[str, str], list[Due]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self._world = world
        self._keys: dict[str, str] = {}
        self._void: set[tuple[str, str]] = set()  # committed once, and set back
        self._took: set[tuple[str, str]] = set()
        self._rejected: set[tuple[str, str]] = set()
        self._refused: dict[tuple[str, str], list[float]] = defaultdict(list)  # by sink and event
        self._refusing: dict[str, list[float]] = defaultdict(list)  # by sink, since it took something
        self._redirected: set[tuple[str, str]] = set()  # it may have arrived: one more answer is enough
        self._worked: set[str] = set()  # sinks; as the store knows it
        self._bodies: dict[str, tuple[str, str]] = {}
        self._ok: set[tuple[int, int, str, str]] = set()
        # Answers, or None, since the last outcome, by process, tenure, sink and event.
        self._heard: dict[tuple[int, int, str, str], list[int | None]] = defaultdict(list)
        self._recorded: dict[int, Any] = {}
        self._not_before: dict[tuple[int, int, str, str], float] = {}
        self._claims: dict[tuple[int, int, str], Claims] = defaultdict(Claims)
        self._mutes: dict[str, tuple[float, float]] = {}  # by sink: since when, and until when
        self._sent_at: dict[tuple[int, int, str], list[float]] = defaultdict(list)  # where there is a rate
        self._restored_at = -1e9
        self.reached_at = -1e9  # the shop was asked for orders then, and the request arrived
        self.failed_at = -1e9  # a question to the shop failed then
        self.polled_at: float | None = None  # the last good poll; None if there was none yet
        self._last_poll_at: datetime | None = None
        self.answer_lost_at = -1e9  # something was written then, and the process was told that it was not
        self._asking: dict[int, tuple[Process, int]] = {}  # requests under way: of whom, and its freezes then
        self._cursor: datetime | None = None

    def fail(self, text: str) -> None:
        """Something must not be."""
        self._world.note(f"VERDICT: {text}")
        self.verdicts.append(text)

    # --- the store ------------------------------------------------------------------------------------------

    def did(self, process: "Process", call: Call, result: Any) -> None:
        """A process got its store's answer."""
        name, args, _ = call
        if name == "take" and result:
            process.leader_session += 1
            process.led_since = self._world.loop.time()
            if isinstance(self._world.place, RedisPlace):
                process.nonce = self._world.place.nonce(process.store)
        elif name == "claim":
            self._claimed(process, args[0], result)
        elif name == "record_outcomes" and isinstance(self._world.place, RedisPlace):
            for outcome in args[0]:  # one that is released is no news to the server
                self._of(process, outcome.delivery.sink).held.pop(outcome.delivery.seq, None)

    def applied(self, process: "Process", call: Call) -> None:
        """A store did what it was told."""
        name, args, _ = call
        leader = self._world.place.leader()
        if leader is not None and leader != process.nonce:
            self.fail(f"{process} wrote ({name}) without the lease")
        match name:
            case "commit":
                self._committed(process, args[1])
            case "record_outcomes":
                for outcome in args[0]:
                    self._of(process, outcome.delivery.sink).held.pop(outcome.delivery.seq, None)
                    self._finished(process, outcome)
            case "raise_alert" | "clear_alert":
                # Asked once more, after its answer was lost, it changes nothing.
                self._owe(
                    process,
                    [
                        o
                        for o in args[2]
                        if self._due(o.sink, o.notification.key, o.notification.event_id) is None
                    ],
                )

    def _committed(self, process: "Process", batch: Batch) -> None:
        sight, process.sight = process.sight, None
        if self.oracle is None and batch.state.baseline_at is not None:
            self.oracle = Oracle(batch.state.baseline_at, blind=False)
        expected = []
        if sight is not None and self.oracle is not None:
            first_contact = sight.query.newest_first and sight.query.created_before is None
            for order in () if first_contact else sight.readable:
                if sight.query.statuses:
                    self.oracle.imports_silently(order)
                elif not self._may_wait(order, sight.query, batch):
                    expected += self.oracle.sees(order, self._held(order, batch), sight.dated)
        for sink, receiver in self._world.receivers.items():
            told = [
                (due.order_id, due.kind, event_id(self._world.shop_id, str(due.order_id), due.kind, due.n))
                for due in expected
                if due.is_for(people=receiver.is_for_people)
            ]
            given = [
                (int(o.notification.source_id), str(o.notification.event_type), o.notification.event_id)
                for o in batch.new_deliveries
                if o.sink == sink
            ]
            if given != told:
                self.fail(f"{process} decided {given} for {sink}, where {told} follows")
        self.counts["observed"] += len(expected)
        self.counts["placed"] += sum(due.kind == PLACED for due in expected)
        polled_at = batch.state.last_poll_at
        is_new = polled_at is not None and (batch.now - polled_at).total_seconds() <= LATE_S
        if polled_at != self._last_poll_at and is_new:  # an old one is that of a state that was set back
            self._last_poll_at, self.polled_at = batch.state.last_poll_at, self._world.loop.time()
        self._owe(process, batch.new_deliveries)
        self._look_at_the_cursor(process, batch)
        if sight is not None and sight.is_end and sight.query.modified_after and not sight.query.newest_first:
            self._look_at_the_end(process, batch, sight)

    def _look_at_the_end(self, process: "Process", batch: Batch, sight: Sight) -> None:
        """An empty page ends a walk, so that a tick at which nothing happened costs one request."""
        polled_at, is_disturbed = batch.state.last_poll_at, sight.disturbances != self._world.disturbances
        if not is_disturbed and (polled_at is None or (batch.now - polled_at).total_seconds() > LATE_S):
            self.fail(f"{process} does not end its walk with an empty page")

    def _may_wait(self, order: SimulatedOrder, query: Query, batch: Batch) -> bool:
        """Whether a sweep saw an order that is dated before what was seen of it, and did not decide yet.

        Such an answer may be an old one that a cache kept. It has to be decided once it is confirmed: at
        the end nothing may be missing.
        """
        memory = self.oracle.memories.get(order.id) if self.oracle else None
        is_dated_back = (
            memory is not None and memory.modified is not None and order.modified < memory.modified
        )
        is_walk = query.modified_after is not None
        return is_dated_back and not is_walk and order.id not in {one.id for one in batch.known}

    def _held(self, order: SimulatedOrder, batch: Batch) -> set[int]:
        """Refunds that may be half written and were not decided yet; at the end none may be missing."""
        assert self.oracle is not None
        doubtful = self.oracle.may_be_half_written(order)
        if not doubtful:
            return doubtful
        known = next((one.refund_ids for one in batch.known if one.id == order.id), None)
        return doubtful - (known or frozenset())

    def _look_at_the_cursor(self, process: "Process", batch: Batch) -> None:
        """What the next walk does not ask for any more must have been seen."""
        cursor, overlap_s = batch.state.cursor_at, self._world.plan.overlap_s
        if self.oracle is None or cursor is None or "older stamps" in self._world.plan.shop.kinds:
            return
        if cursor == self._cursor:
            return
        self._cursor = cursor
        passed = cursor - timedelta(seconds=overlap_s)
        for order_id in self._world.ours:
            order, memory = self._world.shop.order(order_id), self.oracle.memories.get(order_id)
            if order.modified <= passed and (memory is None or memory.modified != order.modified):
                seen = memory and f"{memory.status}, {memory.modified:%T}"
                self.fail(
                    f"{process} moves the cursor to {cursor:%T}, past order {order_id} ({order.status},"
                    f" {order.modified:%T}), which it did not read (seen: {seen})"
                )

    def _owe(self, process: "Process", new_deliveries: Sequence[NewDelivery]) -> None:
        for one in new_deliveries:
            told = one.notification
            line = self.lines[one.sink, told.key]
            if any(due.event_id == told.event_id for due in line):
                self.fail(
                    f"{process} put {told.event_type} of {told.key} into the outbox of {one.sink} twice"
                )
            line.append(Due(told.event_id, owed_at=self._world.loop.time()))
            self._keys[told.event_id] = told.key
            self._void.discard((one.sink, told.event_id))

    def _finished(self, process: "Process", outcome: Any) -> None:
        delivery = outcome.delivery
        name = (delivery.sink, delivery.event_id)
        due = self._due(delivery.sink, delivery.key, delivery.event_id)
        if id(outcome) not in self._recorded:  # else the answer was lost, and it is recorded once more
            self._recorded[id(outcome)] = outcome
            self._look_at_attempts(process, outcome, due)
        match outcome:
            case Ack():
                if name not in self._took:
                    self.fail(f"{process} acked {delivery.event_type} of {delivery.key}, which nobody took")
                self._worked.add(delivery.sink)
                if due is not None:
                    due.acked_step = self._world.loop.steps
            case MoveToDeadLetters():
                if name not in self._rejected and not self._is_refused_for_long(name, due):
                    self.fail(f"{process} gave up {delivery.event_type} of {delivery.key}: {outcome.reason}")
                if due is not None:
                    due.is_dead_letter = True

    def _look_at_attempts(self, process: "Process", outcome: Any, due: Due | None) -> None:
        """What an outcome says of its attempts must be what the receiver was asked, and answered."""
        delivery = outcome.delivery
        heard = self._heard.pop(
            (process.number, process.leader_session, delivery.sink, delivery.event_id), list[int | None]()
        )
        made = [(one.kind, one.status) for one in outcome.new_attempts]
        is_http = not self._world.receivers[delivery.sink].bulk
        told = [(kind == DELIVERED, status if is_http else None) for kind, status in made]
        seen = [(code is not None and 200 <= code < 300, code if is_http else None) for code in heard]
        if told != seen:
            self.fail(
                f"{process} records attempts {made} of {delivery.event_type} of {delivery.key} to"
                f" {delivery.sink}, where it got {heard}"
            )
        self.counts["attempts"] += len(made)
        if due is not None:
            due.attempts += made

    def look_at_history(self, over: FinishedDelivery) -> None:
        """What a store says of the attempts of a delivery must be what it was told, whoever was killed."""
        due, log = self._due(over.sink, over.key, over.event_id), over.attempt_log
        if due is None:
            return
        made, kept = due.attempts, [(one.kind, one.status) for one in log.kept]
        right = made if len(made) <= MOST_ATTEMPTS else [made[0], *made[1 - MOST_ATTEMPTS :]]
        is_again = over.key.startswith("alert:") and log.count and made[-log.count :] == kept
        if due.is_set_back or is_again:  # an alert that is raised again after a fail-over is a row of its own
            right, made = kept, [*kept, *[("", None)] * (log.count - len(kept))]
        if (log.count, kept) != (len(made), right):
            self.fail(f"the history of {over.key} to {over.sink} has {log.count}: {kept}, of {made}")
        if not over.reason and (log.last is None or log.last.kind != DELIVERED):
            self.fail(
                f"the history of {over.key} to {over.sink} says that it was delivered, and by no attempt"
            )

    def _is_refused_for_long(self, name: tuple[str, str], due: Due | None) -> bool:
        """Whether a refusal that may pass has lasted: of this event, or of all since it is owed."""
        if not self._refused[name]:
            return False
        if name[0] not in self._worked:
            return True
        now, owed_at = self._world.loop.time(), due.owed_at if due is not None else 0.0
        of_all = self._refusing[name[0]]
        waited = not of_all or now - owed_at >= REFUSED_FOR_S - 1 or name in self._redirected
        return any(
            len(times) >= REFUSED_TIMES and now - times[0] >= REFUSED_FOR_S - 1
            for times in (self._refused[name], of_all if waited else [])
        )

    def _may_repeat(self, key: str) -> bool:
        """A summary of dead letters may, after a clock that was ahead: its date then lies in the future."""
        return key.startswith(SUMMARY) and self._world.told_time_at > 0

    def puts_off(
        self, decision: RetryAt | GiveUp, *, attempts: int, error: ShopPollerError, now: datetime
    ) -> None:
        """A delivery failed: half of the doubled wait at least, spread below its ceiling, clamped first."""
        if isinstance(decision, RetryAt):
            wait_s = (decision.at - now).total_seconds()
            ceiling_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(attempts - 1, 20))
            requested_s = getattr(error, "retry_after_s", None) or 0.0
            if not ceiling_s / 2 <= wait_s < ceiling_s and wait_s != requested_s:
                self.fail(f"attempt {attempts} is put off for {wait_s} s, where {ceiling_s} s is too much")

    def _claimed(self, process: "Process", sink: str, deliveries: Sequence[Any]) -> None:
        claims = self._of(process, sink)
        for delivery in deliveries:
            if delivery.key in claims.held.values():
                self.fail(f"{process} holds two deliveries of {delivery.key} to {sink} at once")
            claims.held[delivery.seq] = delivery.key
        # In the stream, on the way into it, with senders, and as outcomes in their stream and in a commit.
        size, senders = self._world.plan.queue_size, self._world.plan.senders
        if self._world.receivers[sink].bulk:
            together = min(size + 1, BULK)
            most = 2 * size + together * (senders + 3 * max(1, size // BULK) + 1)
        else:
            most = 4 * size + senders + 1
        if len(claims.held) > most:
            self.fail(f"{process} holds {len(claims.held)} deliveries to {sink}, {most} at most")

    def _of(self, process: "Process", sink: str) -> Claims:
        return self._claims[process.number, process.leader_session, sink]

    def _due(self, sink: str, key: str, name: str) -> Due | None:
        return next((due for due in self.lines[sink, key] if due.event_id == name), None)

    # --- the receivers --------------------------------------------------------------------------------------

    def sends(
        self, process: "Process", receiver: "Receiver", told: Sequence[tuple[str, bytes]]
    ) -> Sequence[Sent]:
        """A process begins to tell a receiver something: ids and bodies, in one request."""
        claims, now = self._of(process, receiver.name), self._world.loop.time()
        senders = self._world.plan.senders
        claims.in_flight += 1
        if claims.in_flight > senders:
            self.fail(f"{process} has {claims.in_flight} requests to {receiver.name} at once")
        since = receiver.loading_since
        every_s = SOON_S if since is not None and now - since < SWITCHING_S + PROBE_EVERY_S else PROBE_EVERY_S
        if claims.failures >= 2 * TRIES * senders and now - claims.failed_at < every_s - 1:
            self.fail(f"{process} does not leave {receiver.name} alone: {claims.failures} failures in a row")
        sent = [self._sends(process, receiver, name, body) for name, body in told]
        is_group = b'"grouped"' in told[0][1]
        most = self._world.plan.queue_size if is_group else BULK
        if len(sent) > most or len({one.key for one in sent}) < len(sent):
            self.fail(f"{process} sends {len(sent)} to {receiver.name} at once: too many, or two of one key")
        self.counts["batches of ten"] += len(sent) >= 10
        self.counts["together"] += len(sent) if len(sent) > 1 else 0
        self.counts["grouped"] += is_group
        for one in sent:
            self._may_disturb(receiver, one)
        self._look_at_the_mute(process, receiver)
        self._look_at_the_rate(process, receiver)
        return sent

    def mutes(self, sink: str, until: float | None = None) -> None:
        """A receiver is muted until then, or it is not known to be."""
        if until is None:
            self._mutes.pop(sink, None)
            return
        self._mutes[sink] = (self._world.loop.time(), until)
        self.counts["muted"] += 1

    def _look_at_the_mute(self, process: "Process", receiver: "Receiver") -> None:
        """Nothing at all comes to who is muted, whichever process it is, if the clocks are right."""
        world, now = self._world, self._world.loop.time()
        since, until = self._mutes.get(receiver.name, (now, now))
        is_right = world.told_time_at < since and process.thawed_at < since
        if is_right and since + MUTED_SOON_S < now < until - 1:
            self.fail(f"{process} sends something to {receiver.name}, which is muted")

    def _look_at_the_rate(self, process: "Process", receiver: "Receiver") -> None:
        """No more requests come in any period than the receiver's rate says."""
        rate, now = receiver.options.rate, self._world.loop.time()
        if rate is None:
            return
        sent_at = self._sent_at[process.number, process.leader_session, receiver.name]
        sent_at.append(now)
        del sent_at[: -rate.count - 1]
        self.counts["rated"] += 1
        is_steady = now - process.thawed_at > rate.period_s
        if len(sent_at) > rate.count and now - sent_at[0] < rate.period_s - 0.01 and is_steady:
            self.fail(f"{process} sends more to {receiver.name} than {rate.count} in {rate.period_s:.0f} s")

    def _may_disturb(self, receiver: "Receiver", sent: Sent) -> None:
        """Nothing but what is urgent comes in quiet hours, unless it was under way as they began."""
        world, options, now = self._world, receiver.options, self._world.loop.time()
        if options.quiet is None or json.loads(sent.body)["level"] in {"critical", *options.urgent}:
            return
        known_at = max(world.told_time_at, sent.process.thawed_at)
        # A clock of Redis is known to some milliseconds, so the end of quiet hours may come a little early.
        minutes = [world.now() - timedelta(seconds=ago) for ago in (-1, 0, UNDER_WAY_S)]
        is_quiet = all(options.quiet.is_quiet(at, MOSCOW) for at in minutes)
        is_right = world.host_now() == world.now() and world.server_time() == world.now().timestamp()
        if is_quiet and is_right and now - known_at > UNDER_WAY_S:
            self.fail(f"{sent.process} sends {sent.event_id} to {sent.sink} in its quiet hours")

    def _sends(self, process: "Process", receiver: "Receiver", name: str, body: bytes) -> Sent:
        told = json.loads(body)
        # An alert stands in the line of the service that it is about.
        key = self._keys.get(name, str(told["source_id"]))
        sent = Sent(process, process.leader_session, receiver.name, key, name, body, self._world.loop.steps)
        place, now = self._world.place, self._world.loop.time()
        what = f"{told['event_type']} of {key} to {receiver.name}"
        if self._due(receiver.name, key, name) is None and (receiver.name, name) not in self._void:
            self.fail(f"{process} sends {what}, which was never committed")
        leader = place.leader()
        # The clock of Redis may have ended the lease: nobody else may have it before its holder knows.
        is_cut_short = leader == "" and now - self._world.server_set_at < LEASE_KNOWN_S
        if (
            leader is not None
            and leader != process.nonce
            and now - self._restored_at > 15
            and not is_cut_short
        ):
            self.fail(f"{process} sends {what} without the lease")
        tried = (process.number, process.leader_session, receiver.name, name)
        if tried in self._ok and not self._may_repeat(key):
            self.fail(f"{process} sends {what} again, though it got a yes")
        if now < self._not_before.get(tried, 0) - 0.1:
            self.fail(f"{process} sends {what} before the time that {receiver.name} asked for")
        is_group = "grouped" in told
        self.counts["in summaries"] += is_group and not receiver.options.group_s
        if not is_group and self._bodies.setdefault(name, (key, told["event_type"])) != (
            key,
            told["event_type"],
        ):
            self.fail(f"{process} sends {what} by an id that was another event's")
        return sent

    def note_answers(
        self, several: Sequence[Sent], codes: Sequence[int | None], retry_after: str | None = None
    ) -> None:
        """A process got a receiver's answers, or none, to what it sent in one request."""
        first = several[0]
        claims = self._claims[first.process.number, first.leader_session, first.sink]
        claims.in_flight -= 1
        if DOWN.issuperset(codes):
            claims.failures += 1
            claims.failed_at = self._world.loop.time()
        else:
            claims.failures = 0
        for sent, code in zip(several, codes, strict=True):
            tried = (sent.process.number, sent.leader_session, sent.sink, sent.event_id)
            self._heard[tried].append(code)
            if code is not None and 200 <= code < 300:
                self._ok.add(tried)
            if retry_after is not None:
                self._not_before[tried] = self._world.loop.time() + float(retry_after)

    def arrives(self, sent: Sent, *, takes: bool, code: int, is_alone: bool = True) -> None:
        """A receiver was told something. What it refuses for good with others is no reason to give it up."""
        name = (sent.sink, sent.event_id)
        if is_alone or code not in FOR_GOOD:
            self._refuses(name, code)
        if not takes:
            return
        due = self._due(sent.sink, sent.key, sent.event_id)
        if name in self._took:
            self.counts["repeats"] += 1
            if (
                due is not None
                and due.acked_step is not None
                and sent.at_step > due.acked_step
                and not self._may_repeat(sent.key)
            ):
                self.fail(f"{sent.process} sends {sent.event_id} of {sent.key} again, though it was acked")
            return
        self._took.add(name)
        self._refusing[sent.sink].clear()
        self.counts["taken"] += 1
        if due is None:
            return
        for earlier in self.lines[sent.sink, sent.key]:
            if earlier is due:
                break
            if not earlier.is_dead_letter and (sent.sink, earlier.event_id) not in self._took:
                self.fail(f"{sent.sink} takes an event of {sent.key} before an earlier one")

    def _refuses(self, name: tuple[str, str], code: int) -> None:
        if code in FOR_GOOD:
            self._rejected.add(name)
        if code in MAY_PASS:
            for times in (self._refused[name], self._refusing[name[0]]):
                times.append(self._world.loop.time())
        if code == 302:
            self._redirected.add(name)

    # --- the shop -------------------------------------------------------------------------------------------

    def approaches(self, process: "Process") -> None:
        """A process sends the shop a request: soon enough after it heard of maintenance."""
        closed, process.shop_closed = process.shop_closed, None
        plan, now = self._world.plan, self._world.loop.time()
        if closed is None or plan.interval_s > PROBE_EVERY_S:
            return
        leader_session, since, disturbances = closed
        if leader_session != process.leader_session or disturbances != self._world.disturbances:
            return
        if now - since > PROBE_EVERY_S + plan.interval_s + LATE_S:
            self.fail(f"{process} left the shop alone for {now - since:.0f} s because of maintenance")

    def leaves(self, process: "Process") -> None:
        """A process got an answer to its request to the shop, or waits for none any more."""
        self._asking.pop(process.number, None)

    def reached(self, *, is_poll: bool) -> None:
        """A request arrived at the shop."""
        if is_poll:
            self.reached_at = self._world.loop.time()

    def _ask_one_at_a_time(self, process: "Process") -> None:
        """Nobody asks a shop while somebody else does, unless it was frozen, or the state set back."""
        if process.only_looks:
            return
        now = self._world.loop.time()
        for other, freezes in self._asking.values():
            froze = other.frozen or other.freezes != freezes
            excused_at = max(self._restored_at, process.thawed_at, other.thawed_at)
            if other.number != process.number and not froze and now - excused_at > EXCUSED_S:
                self.fail(f"{process} asks the shop while {other} does")
        self._asking[process.number] = (process, process.freezes)

    def asks(self, process: "Process") -> None:
        """A process asks the shop for orders."""
        self._ask_one_at_a_time(process)
        leader_session, until = process.shop_not_before
        if leader_session == process.leader_session and self._world.loop.time() < until - 0.1:
            self.fail(f"{process} asks the shop, which asked to be left alone for a while")

    def answered(self, process: "Process", response: httpx.Response) -> None:
        """A process got the shop's answer."""
        requested = response.headers.get("Retry-After", "")
        if response.status_code == 503:
            process.shop_closed = (process.leader_session, self._world.loop.time(), self._world.disturbances)
        if response.status_code == 429 and requested.isdigit():
            until = self._world.loop.time() + min(float(requested), MAX_PAUSE_S)
            process.shop_not_before = (process.leader_session, until)

    async def expects_a_poll(self, process: "Process", since: float) -> None:
        """A genuine webhook came to a process: whoever leads looks soon, if nothing forbids it."""
        world, leader_session = self._world, process.leader_session
        disturbances = world.disturbances
        await anyio.sleep(SOON_AFTER_TRIGGER_S)
        now = world.loop.time()
        is_excused = (
            not process.alive
            or process.is_told_to_stop
            or process.leader_session != leader_session
            or process.led_since < 0  # it never led, and nobody may lead just now
            or process.nonce != (world.place.leader() or "")
            or world.disturbances != disturbances
            or bool(world.place.troubles)
            or max(self.failed_at, self._restored_at, process.thawed_at) > now - PAUSED_S
            or process.asks_until > now - SOON_AFTER_TRIGGER_S / 2  # an answer is awaited, by a sweep too
            or now < process.shop_not_before[1]
            or now - process.led_since < PAUSED_S
            or world.plan.sweep_s > 0
        )
        if not is_excused and process.walked_at < since:
            self.fail(f"{process} does not look though a webhook came {now - since:.0f} s ago")

    def walks(self, process: "Process") -> None:
        """A process asks what changed: on its grid or after a hint, and not since something forged came."""
        now, plan = self._world.loop.time(), self._world.plan
        last_at, process.walked_at = process.walked_at, now
        if process.grid[0] != process.leader_session:
            process.grid = (process.leader_session, now)
        off_s = (now - process.grid[1]) % plan.interval_s
        is_on_grid = off_s < OFF_GRID_S or plan.interval_s - off_s < OFF_GRID_S
        goes_on = now - max(last_at, process.asks_until) < OFF_GRID_S  # a page may take the shop long
        is_due = is_on_grid or goes_on
        paused_at = max(self.failed_at, process.trigger_at, process.thawed_at)
        is_calm = now - paused_at > PAUSED_S and not self._world.place.troubles and not plan.sweep_s
        if now - process.no_trigger_at < 2 and is_calm and not is_due:
            self.fail(f"{process} asks what changed because of a webhook that is no hint")

    def health(self, process: "Process", code: int, told: str) -> None:
        """A process said how it does: it must be true, but for what happens just now."""
        world, now = self._world, self._world.loop.time()
        changed_at = max(self._restored_at, world.told_time_at, process.thawed_at)
        if self.polled_at is None or changed_at > self.polled_at:
            return  # its clock, or what it reads, tells it something else
        stale_s, since_s = max(STALE_S, 3 * world.plan.interval_s), now - self.polled_at
        follows = isinstance(world.place, RedisPlace) and process.nonce != world.place.leader()
        if code == 200 and since_s > stale_s + HEALTH_SLACK_S and not (follows and world.place.troubles):
            self.fail(f"{process} says that it is healthy, {since_s:.0f} s after the last good poll")
        ends = process.is_told_to_stop and "No active workers" in told
        knows_of_it = self.answer_lost_at < self.polled_at
        if code != 200 and since_s < stale_s - HEALTH_SLACK_S and knows_of_it and not ends:
            self.fail(f"{process} says {told}, {since_s:.0f} s after the last good poll")

    def witness(self, process: "Process", source: Source) -> "Witness":
        """The process's view of the shop."""
        return Witness(self._world, process, source)

    # --- lives ----------------------------------------------------------------------------------------------

    def ended_badly(self, process: "Process", error: BaseException) -> None:
        """A process ended by an exception that is not ours."""
        if not process.dead:
            self.fail(f"{process} ended by {error!r}")
            self.crashes.append(self.verdicts[-1])

    # --- backups --------------------------------------------------------------------------------------------

    def save(self) -> Any:
        """What is known now, to go with a backup of the state."""
        return copy.deepcopy((self.oracle, dict(self.lines)))

    def restore(self, saved: Any) -> None:
        """The state is what it was then: what was committed since is void, and has to be found anew."""
        oracle, lines = copy.deepcopy(saved)
        before = {(sink, due.event_id) for (sink, _), line in self.lines.items() for due in line}
        self.oracle, self.lines = oracle, defaultdict(list, lines)
        self._cursor = None
        for line in self.lines.values():
            for due in line:
                due.is_set_back = due.is_set_back or due.acked_step is None
        after = {(sink, due.event_id) for (sink, _), line in self.lines.items() for due in line}
        self._void |= before - after
        self._restored_at = self._world.loop.time()
        self._mutes.clear()
        self._ok.clear()  # the store does not know of it any more
        self._worked.clear()
        self.counts["restored"] += 1
        for process in self._world.processes:
            process.sight = None

    def waiting(self) -> dict[str, int]:
        """How many deliveries should be in the outbox, by sink."""
        unrecorded = (
            sink
            for (sink, _), line in self.lines.items()
            for due in line
            if not due.is_dead_letter and due.acked_step is None
        )
        return dict(Counter(unrecorded))

    def keys(self) -> set[str]:
        """The orders and alerts of which something was to be told."""
        return {key for _, key in self.lines}

    def forgotten(self, delivery_records: Sequence[DeliveryRecord]) -> list[str]:
        """The deliveries that are over and have no trace: an audit would take them for lost."""
        remembered = {(trace.sink, trace.event_id) for trace in delivery_records}
        return [
            f"{due.event_id} of {key} to {sink}"
            for (sink, key), line in self.lines.items()
            for due in line
            if (due.is_dead_letter or due.acked_step is not None) and (sink, due.event_id) not in remembered
        ]

    # --- the end --------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """What is still to be done, once all faults have stopped."""
        found = []
        memories = self.oracle.memories if self.oracle else {}
        for order in self._world.shop.orders:
            memory = memories.get(order.id)
            if order.id not in self._world.ours:
                continue
            if memory is None or memory.status != order.status:
                found.append(f"order {order.id} is {order.status}, seen as {memory and memory.status}")
            elif not memory.refunds >= {refund.id for refund in order.refunds}:
                found.append(f"a refund of order {order.id} was not seen")
        for (sink, key), line in self.lines.items():
            for due in line:
                if not due.is_dead_letter and due.acked_step is None:
                    taken = "taken, not acked" if (sink, due.event_id) in self._took else "not taken"
                    found.append(f"{due.event_id} of {key} to {sink}: {taken}")
                elif not due.is_dead_letter and (sink, due.event_id) not in self._took:
                    found.append(f"{due.event_id} of {key} to {sink}: lost")
        return found


class Witness:
    """A source that tells the judge what was shown. For the methods see ports.Source."""

    def __init__(self, world: "World", process: "Process", source: Source) -> None:
        self._world = world
        self._process = process
        self._source = source
        self._failures = 0
        self._failed_at = self._triggered_at = self._sent_at = -1e9
        self._leader_session = 0

    @property
    def most_ids(self) -> int:
        return self._source.most_ids

    async def fetch(self, query: Query) -> Page:
        process, now = self._process, self._world.loop.time()
        if self._leader_session != process.leader_session:  # each has a breaker of its own
            self._leader_session, self._failures = process.leader_session, 0
        is_too_soon = self._failures >= 5 and now - self._failed_at < PROBE_EVERY_S - 1
        if (
            is_too_soon
            # It came during the tick that failed, whose attempts take an interval at most, or after it.
            and process.trigger_at >= self._sent_at - self._world.plan.interval_s
            and now - self._triggered_at >= PROBE_EVERY_S - 1
        ):
            self._triggered_at, is_too_soon = now, False  # a webhook ends a pause, once a minute
        if is_too_soon and not self._world.plan.sweep_s:
            self._world.judge.fail(f"{process} does not leave the shop alone after {self._failures} failures")
        process.sight, self._sent_at = None, now
        if query.modified_after is not None and not query.ids:
            self._world.judge.walks(process)
        process.only_looks = query.per_page == 1  # whether the shop can be reached, or at first contact
        process.asks_until = math.inf
        try:
            page = await self._source.fetch(query)
        except ShopPollerError:
            self._failures += query.modified_after is not None  # a sweep that fails opens no circuit
            self._world.judge.failed_at = self._world.loop.time()
            self._failed_at = self._world.loop.time()
            raise
        finally:
            process.asks_until = self._world.loop.time()
        self._failures = 0
        readable = []
        for order in page.orders:
            versions = [one for one in process.loaded.get(order.id, ()) if one.status == order.status]
            if not versions:
                self._world.judge.fail(
                    f"{process} reads order {order.id} as {order.status}: it was not shown so"
                )
                continue
            readable.append(versions[-1])
        is_end = not page.items and (page.total_pages or 1) <= 1
        if query.newest_first and query.created_before is not None:  # the part of a sweep after the refunds
            process.listed_refunds = frozenset()
        dated = process.listed_refunds if query.ids else frozenset()
        process.sight = Sight(query, readable, is_end, self._world.disturbances, dated)
        return page

    async def aclose(self) -> None:
        await self._source.aclose()
