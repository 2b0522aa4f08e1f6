"""Knows every observation, and holds each step of the daemons against what must follow from them.

What is observed is what the shop showed in an answer that was committed: of that nothing may be lost.
"""

import copy
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import event_id
from shop_poller.core.model import Page, Query
from shop_poller.core.retry import DeadLetter, RetryAt
from shop_poller.ports import Ack, Batch, Bury, Outgoing, Source
from shop_poller.simulator.orders import SimulatedOrder
from simulation.places import SHOP, Call, RedisPlace
from support.oracle import Oracle

if TYPE_CHECKING:
    from simulation.network import Receiver
    from simulation.processes import Process
    from simulation.world import World

FOR_GOOD = {code for code in range(400, 500) if code not in {408, 409, 425, 429}}
DOWN = {None, 408, 429, 502, 503, 504, 302}
BACKOFF_BASE_S, BACKOFF_CAP_S = 30.0, 7200.0
PROBE_EVERY_S = 60.0
MAX_PAUSE_S = 900.0
TRIES = 3
BULK = 100


@dataclass
class Sent:
    """A notification on its way to a receiver, alone or with others."""

    process: "Process"
    tenure: int
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
    """

    event_id: str
    acked_step: int | None = None
    is_buried: bool = False


@dataclass
class Claims:
    """What a process holds of one sink, and how that fares."""

    held: dict[int, str] = field(default_factory=dict)
    in_flight: int = 0
    failures: int = 0
    failed_at: float = -1e9


@dataclass
class Sight:
    """An answer: what was asked, and the orders that the source read from it, as the shop had them."""

    query: Query
    readable: Sequence[SimulatedOrder]


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
        self._bodies: dict[str, tuple[str, str]] = {}
        self._ok: set[tuple[int, int, str, str]] = set()
        self._not_before: dict[tuple[int, int, str, str], float] = {}
        self._claims: dict[tuple[int, int, str], Claims] = defaultdict(Claims)
        self._restored_at = -1e9

    def fail(self, text: str) -> None:
        """Something must not be."""
        self._world.note(f"VERDICT: {text}")
        self.verdicts.append(text)

    # --- the store ------------------------------------------------------------------------------------------

    def did(self, process: "Process", call: Call, result: Any) -> None:
        """A process got its store's answer."""
        name, args, _ = call
        if name == "take" and result:
            process.tenure += 1
            if isinstance(self._world.place, RedisPlace):
                process.nonce = self._world.place.nonce(process.store)
        elif name == "claim":
            self._claimed(process, args[0], result)
        elif name == "settle" and isinstance(self._world.place, RedisPlace):
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
            case "settle":
                for outcome in args[0]:
                    self._of(process, outcome.delivery.sink).held.pop(outcome.delivery.seq, None)
                    self._settled(process, outcome)
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
                    self.oracle.learns(order)
                else:
                    expected += self.oracle.sees(order)
        told = [
            (due.order_id, due.kind, event_id(SHOP, str(due.order_id), due.kind, due.n)) for due in expected
        ]
        for sink in self._world.receivers:
            given = [
                (int(o.notification.source_id), str(o.notification.event_type), o.notification.event_id)
                for o in batch.outgoing
                if o.sink == sink
            ]
            if given != told:
                self.fail(f"{process} decided {given} for {sink}, where {told} follows")
        self.counts["observed"] += len(told)
        self._owe(process, batch.outgoing)

    def _owe(self, process: "Process", outgoing: Sequence[Outgoing]) -> None:
        for one in outgoing:
            told = one.notification
            line = self.lines[one.sink, told.key]
            if any(due.event_id == told.event_id for due in line):
                self.fail(
                    f"{process} put {told.event_type} of {told.key} into the outbox of {one.sink} twice"
                )
            line.append(Due(told.event_id))
            self._keys[told.event_id] = told.key
            self._void.discard((one.sink, told.event_id))

    def _settled(self, process: "Process", outcome: Any) -> None:
        delivery = outcome.delivery
        name = (delivery.sink, delivery.event_id)
        due = self._due(delivery.sink, delivery.key, delivery.event_id)
        match outcome:
            case Ack():
                if name not in self._took:
                    self.fail(f"{process} acked {delivery.event_type} of {delivery.key}, which nobody took")
                if due is not None:
                    due.acked_step = self._world.loop.steps
            case Bury():
                if name not in self._rejected:
                    self.fail(f"{process} gave up {delivery.event_type} of {delivery.key}: {outcome.reason}")
                if due is not None:
                    due.is_buried = True

    def puts_off(
        self, decision: RetryAt | DeadLetter, *, attempts: int, error: ShopPollerError, now: datetime
    ) -> None:
        """A delivery failed: half of the doubled wait at least, spread below its ceiling, clamped first."""
        if isinstance(decision, RetryAt):
            wait_s = (decision.at - now).total_seconds()
            ceiling_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(attempts - 1, 20))
            asked_s = getattr(error, "retry_after_s", None) or 0.0
            if not ceiling_s / 2 <= wait_s < ceiling_s and wait_s != asked_s:
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
        return self._claims[process.number, process.tenure, sink]

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
        if claims.failures >= 2 * TRIES * senders and now - claims.failed_at < PROBE_EVERY_S - 1:
            self.fail(f"{process} does not leave {receiver.name} alone: {claims.failures} failures in a row")
        sent = [self._sends(process, receiver, name, body) for name, body in told]
        if len(sent) > BULK or len({one.key for one in sent}) < len(sent):
            self.fail(f"{process} sends {len(sent)} to {receiver.name} at once: too many, or two of one key")
        self.counts["batches of ten"] += len(sent) >= 10
        self.counts["together"] += len(sent) if len(sent) > 1 else 0
        return sent

    def _sends(self, process: "Process", receiver: "Receiver", name: str, body: bytes) -> Sent:
        told = json.loads(body)
        # An alert stands in the line of the service that it is about.
        key = self._keys.get(name, str(told["source_id"]))
        sent = Sent(process, process.tenure, receiver.name, key, name, body, self._world.loop.steps)
        place, now = self._world.place, self._world.loop.time()
        what = f"{told['event_type']} of {key} to {receiver.name}"
        if self._due(receiver.name, key, name) is None and (receiver.name, name) not in self._void:
            self.fail(f"{process} sends {what}, which was never committed")
        leader = place.leader()
        if leader is not None and leader != process.nonce and now - self._restored_at > 15:
            self.fail(f"{process} sends {what} without the lease")
        tried = (process.number, process.tenure, receiver.name, name)
        if tried in self._ok:
            self.fail(f"{process} sends {what} again, though it got a yes")
        if now < self._not_before.get(tried, 0) - 0.1:
            self.fail(f"{process} sends {what} before the time that {receiver.name} asked for")
        if self._bodies.setdefault(name, (key, told["event_type"])) != (key, told["event_type"]):
            self.fail(f"{process} sends {what} by an id that was another event's")
        return sent

    def heard(
        self, several: Sequence[Sent], codes: Sequence[int | None], retry_after: str | None = None
    ) -> None:
        """A process got a receiver's answers, or none, to what it sent in one request."""
        first = several[0]
        claims = self._claims[first.process.number, first.tenure, first.sink]
        claims.in_flight -= 1
        if DOWN.issuperset(codes):
            claims.failures += 1
            claims.failed_at = self._world.loop.time()
        else:
            claims.failures = 0
        for sent, code in zip(several, codes, strict=True):
            tried = (sent.process.number, sent.tenure, sent.sink, sent.event_id)
            if code is not None and 200 <= code < 300:
                self._ok.add(tried)
            if retry_after is not None:
                self._not_before[tried] = self._world.loop.time() + float(retry_after)

    def arrives(self, sent: Sent, *, takes: bool, code: int) -> None:
        """A receiver was told something."""
        name = (sent.sink, sent.event_id)
        if code in FOR_GOOD:
            self._rejected.add(name)
        if not takes:
            return
        due = self._due(sent.sink, sent.key, sent.event_id)
        if name in self._took:
            self.counts["repeats"] += 1
            if due is not None and due.acked_step is not None and sent.at_step > due.acked_step:
                self.fail(f"{sent.process} sends {sent.event_id} of {sent.key} again, though it was acked")
            return
        self._took.add(name)
        self.counts["taken"] += 1
        if due is None:
            return
        for earlier in self.lines[sent.sink, sent.key]:
            if earlier is due:
                break
            if not earlier.is_buried and (sent.sink, earlier.event_id) not in self._took:
                self.fail(f"{sent.sink} takes an event of {sent.key} before an earlier one")

    # --- the shop -------------------------------------------------------------------------------------------

    def asks(self, process: "Process") -> None:
        """A process asks the shop for orders."""
        tenure, until = process.shop_not_before
        if tenure == process.tenure and self._world.loop.time() < until - 0.1:
            self.fail(f"{process} asks the shop, which asked to be left alone for a while")

    def answered(self, process: "Process", response: httpx.Response) -> None:
        """A process got the shop's answer."""
        asked = response.headers.get("Retry-After", "")
        if response.status_code == 429 and asked.isdigit():
            until = self._world.loop.time() + min(float(asked), MAX_PAUSE_S)
            process.shop_not_before = (process.tenure, until)

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
        after = {(sink, due.event_id) for (sink, _), line in self.lines.items() for due in line}
        self._void |= before - after
        self._restored_at = self._world.loop.time()
        self._ok.clear()  # the store does not know of it any more
        self.counts["restored"] += 1
        for process in self._world.processes:
            process.sight = None

    def waiting(self) -> dict[str, int]:
        """How many deliveries should be in the outbox, by sink."""
        unsettled = (
            sink
            for (sink, _), line in self.lines.items()
            for due in line
            if not due.is_buried and due.acked_step is None
        )
        return dict(Counter(unsettled))

    # --- the end --------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """What is still to be done, once all faults have stopped."""
        found = []
        memories = self.oracle.memories if self.oracle else {}
        for order in self._world.shop.orders:
            memory = memories.get(order.id)
            if order.id in self._world.ours and (memory is None or memory.status != order.status):
                found.append(f"order {order.id} is {order.status}, seen as {memory and memory.status}")
        for (sink, key), line in self.lines.items():
            for due in line:
                if not due.is_buried and due.acked_step is None:
                    taken = "taken, not acked" if (sink, due.event_id) in self._took else "not taken"
                    found.append(f"{due.event_id} of {key} to {sink}: {taken}")
                elif not due.is_buried and (sink, due.event_id) not in self._took:
                    found.append(f"{due.event_id} of {key} to {sink}: lost")
        return found


class Witness:
    """A source that tells the judge what was shown. For the methods see ports.Source."""

    def __init__(self, world: "World", process: "Process", source: Source) -> None:
        self._world = world
        self._process = process
        self._source = source
        self._failures = 0
        self._failed_at = -1e9
        self._tenure = 0

    @property
    def most_ids(self) -> int:
        return self._source.most_ids

    async def fetch(self, query: Query) -> Page:
        process, now = self._process, self._world.loop.time()
        if self._tenure != process.tenure:  # each has a breaker of its own
            self._tenure, self._failures = process.tenure, 0
        if self._failures >= 5 and now - self._failed_at < PROBE_EVERY_S - 1 and not self._world.plan.sweep_s:
            self._world.judge.fail(f"{process} does not leave the shop alone after {self._failures} failures")
        process.sight = None
        try:
            page = await self._source.fetch(query)
        except ShopPollerError:
            self._failures += 1
            self._failed_at = self._world.loop.time()
            raise
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
        process.sight = Sight(query, readable)
        return page

    async def aclose(self) -> None:
        await self._source.aclose()
