"""Inspects all keys of a prefix and repairs what it can. It reads in parts and never blocks the server."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shop_poller.core.cursor import LOST_CURSOR_REWIND
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.translatable import Text, joined
from shop_poller.stores import stored
from shop_poller.stores.damage import Original, StateFinding
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.connection import RedisConnection
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.lease import RedisLease
from shop_poller.stores.redis.outbox_order import OutboxOrder
from shop_poller.stores.redis.outbox_rows import COUNTED

Command = list[str | int]
TAKES_OUT = Text("a repair takes it out and keeps a copy")
CORRECTS = Text("a repair corrects it and keeps a copy")


@dataclass(frozen=True, slots=True)
class StoredProblem:
    """A problem, and the commands that fix it.

    Attributes:
        finding: the problem.
        keys: the keys of the commands.
        commands: the commands. Each is a name, the number of its key from 1, and arguments.
        row: the stored values.
    """

    finding: StateFinding
    keys: Sequence[str] = ()
    commands: Sequence[Command] = ()
    row: Mapping[str, object] | None = None


class Inspection:
    """One inspection of the state of a shop.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
        order: repairs the outbox.
        aside: keeps copies.
        shop_id: the id of the shop.
        now: replaces times that cannot be read.
    """

    def __init__(
        self,
        connection: RedisConnection,
        keys: Keys,
        *,
        order: OutboxOrder,
        aside: Aside,
        shop_id: str,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._order = order
        self._aside = aside
        self._shop_id = shop_id
        self._now = now

    async def findings(self) -> list[StateFinding]:
        """Return everything that is wrong. Changes nothing."""
        wrong = await self.wrong_types()
        if wrong:  # as long as these keys exist, the rest cannot be read
            return wrong
        return [found.finding async for found in self._all()] + await self._of_order()

    async def wrong_types(self) -> list[StateFinding]:
        """Return the keys of the wrong type."""
        expected = self._keys.types(self._shop_id)
        wrong = await self._aside.wrong_keys(expected)
        if self._keys.lanes not in wrong:
            for shop, sink in await self._order.lanes():
                lane = dict.fromkeys(self._keys.lane(shop, sink), "zset")
                expected |= lane
                wrong |= await self._aside.wrong_keys(lane)
        return [
            StateFinding(
                key,
                "-",
                Text("it is a {kind} instead of a {expected}", kind=kind, expected=expected[key]),
                Text("a repair renames it"),
            )
            for key, kind in wrong.items()
        ]

    async def repair(self) -> list[StateFinding]:
        """Repair what can be repaired. Needs the lease, and keys of the right types.

        Returns:
            What was wrong.
        """
        wrong = await self.findings()
        async for found in self._all():
            one = found.finding
            if found.row is not None:
                await self._aside.note(
                    Original(self._shop_id, one.place, one.name, [one.problem], found.row), self._now
                )
            if found.commands:
                keys = [self._keys.lease, *found.keys]
                text = json.dumps(found.commands, ensure_ascii=False)
                await self._connection.fenced("apply", keys, [text])
        await self._order.repair(self._now)
        return wrong

    async def _all(self) -> AsyncGenerator[StoredProblem]:
        for part in (self._of_shop, self._of_orders, self._of_small, self._of_waiting, self._of_over):
            async for found in part():
                yield found

    async def _of_shop(self) -> AsyncGenerator[StoredProblem]:
        keys = self._keys.shop(self._shop_id)
        fields = {name: text async for name, text in self._connection.fields(keys.state)}
        state, problems = codec.shop_state(fields)
        if state is not None and problems:
            right = codec.state_fields(state)
            commands: list[Command] = [
                ["HSET", 1, name, text] if text else ["HDEL", 1, name] for name, text in right.items()
            ]
            finding = StateFinding("state", self._shop_id, joined("; ", problems), CORRECTS)
            yield StoredProblem(finding, [keys.state], commands, fields)
        for name, text in fields.items():
            day = name.removeprefix(codec.TALLY)
            if name.startswith(codec.TALLY) and (problems := stored.tally(day, text)[1]):
                finding = StateFinding("tallies", stored.name_of(day), "; ".join(problems), TAKES_OUT)
                yield StoredProblem(finding, [keys.state], [["HDEL", 1, name]], {name: text})
        last = await self._connection.read("GET", keys.last_poll_time)
        if last is not None and codec.from_naive_iso(last) is None:
            problem = Text("it is not a valid time")
            polled = state.last_poll_at if state is not None else None
            command: Command = ["SET", 1, codec.naive_iso(polled or self._now - LOST_CURSOR_REWIND)]
            finding = StateFinding("last_poll_time", "-", problem, CORRECTS)
            yield StoredProblem(finding, [keys.last_poll_time], [command], {"value": last})
        left = await self._connection.read("TTL", self._keys.lease)
        if left == -1:
            finding = StateFinding("lease", "-", Text("it does not expire"), Text("the next leader takes it"))
            yield StoredProblem(finding)

    async def _of_orders(self) -> AsyncGenerator[StoredProblem]:
        keys = self._keys.shop(self._shop_id)
        where = [keys.known_orders, keys.known_details]
        async for order_id, status in self._connection.fields(keys.known_orders):
            if not order_id.isascii() or not order_id.isdigit() or int(order_id) > stored.MOST:
                finding = StateFinding(
                    "known_orders", stored.name_of(order_id), Text("it is not an id"), TAKES_OUT
                )
                command: Command = ["HDEL", 1, order_id]
                yield StoredProblem(finding, where, [command], {"id": order_id, "status": status})
        async for order_id, details in self._connection.fields(keys.known_details):
            if order_id == "rev":
                continue
            if not order_id.isascii() or not order_id.isdigit() or int(order_id) > stored.MOST:
                finding = StateFinding(
                    "known_details", stored.name_of(order_id), Text("it is not an id"), TAKES_OUT
                )
                yield StoredProblem(
                    finding, where, [["HDEL", 2, order_id]], {"id": order_id, "details": details}
                )
                continue
            status = await self._connection.read("HGET", keys.known_orders, order_id)
            order, problems = codec.known_order(int(order_id), status, details)
            if order is not None and problems:
                finding = StateFinding("known_orders", order_id, joined("; ", problems), CORRECTS)
                right: list[Command] = [
                    ["HSET", 1, order_id, order.status],
                    ["HSET", 2, order_id, codec.known_details(order)],
                ]
                yield StoredProblem(finding, where, right, {"status": status, "details": details})

    async def _of_small(self) -> AsyncGenerator[StoredProblem]:
        keys = self._keys.shop(self._shop_id)
        async for service, text in self._connection.fields(keys.alerts):
            alert, problems = codec.alert(service, text)
            if alert is None:
                finding = StateFinding("alerts", stored.name_of(service), joined("; ", problems), TAKES_OUT)
                yield StoredProblem(
                    finding, [keys.alerts], [["HDEL", 1, service]], {"name": service, "alert": text}
                )
        async for order_id, text in self._connection.fields(keys.set_aside):
            since, _, reason = text.partition(" ")
            reading = stored.Reading()
            reading.whole(order_id, Text("the id"), high=stored.MOST)
            reading.moment(since, "since", self._now)
            reading.text(reason, "reason", most=stored.MOST_DETAILS)
            if reading.problems:
                finding = StateFinding(
                    "set_aside", stored.name_of(order_id), joined("; ", reading.problems), TAKES_OUT
                )
                yield StoredProblem(
                    finding, [keys.set_aside], [["HDEL", 1, order_id]], {"id": order_id, "text": text}
                )
        fields = {name: text async for name, text in self._connection.fields(keys.backfill)}
        backfill, problems = stored.backfill(fields) if fields else (None, [])
        if fields and backfill is None:
            finding = StateFinding("backfill", self._shop_id, joined("; ", problems), TAKES_OUT)
            yield StoredProblem(finding, [keys.backfill], [["DEL", 1]], fields)

    async def _of_waiting(self) -> AsyncGenerator[StoredProblem]:
        """Yield the problems of rows of the outbox, without commands: OutboxOrder.repair corrects them."""
        async for seq, row in self._connection.fields(self._keys.outbox):
            if not COUNTED.fullmatch(seq):
                continue
            head = await self._connection.read("HGET", self._keys.heads, seq)
            delivery, problems = codec.delivery(seq, row, head or "0 0", self._now)
            if problems:
                fix = TAKES_OUT if delivery is None else CORRECTS
                yield StoredProblem(StateFinding("outbox", seq, joined("; ", problems), fix))

    async def _of_over(self) -> AsyncGenerator[StoredProblem]:
        lanes = await self._order.lanes()
        for where, dead in ((self._keys.dead_letters, True), (self._keys.delivered, False)):
            ages = [
                self._keys.dead(shop, sink) if dead else self._keys.delivered_by_age(shop, sink)
                for shop, sink in lanes
            ]
            async for seq, text in self._connection.fields(where):
                over, problems = codec.finished(seq, text, dead=dead)[0], _problems_of(seq, text, dead=dead)
                if over is not None and not problems:
                    continue
                place = "dead_letters" if dead else "delivered"
                right = codec.with_readable_log(text)
                if over is not None and not _problems_of(seq, right, dead=dead):
                    finding = StateFinding(place, stored.name_of(seq), joined("; ", problems), CORRECTS)
                    yield StoredProblem(
                        finding, [where], [["HSET", 1, seq, right]], {"seq": seq, "text": text}
                    )
                    continue
                commands: list[Command] = [["HDEL", 1, seq]]
                commands += [["ZREM", number, seq] for number in range(2, len(ages) + 2)]
                finding = StateFinding(place, stored.name_of(seq), joined("; ", problems), TAKES_OUT)
                yield StoredProblem(finding, [where, *ages], commands, {"seq": seq, "text": text})

    async def _of_order(self) -> list[StateFinding]:
        """Return the problems of the index of the deliveries, and of their counter."""
        found = []
        counter = await self._connection.read("HGET", self._keys.outbox, "seq")
        if counter is not None and not COUNTED.fullmatch(counter):
            problem = Text("the counter of deliveries is not a valid number")
            found.append(StateFinding("outbox", "counter", problem, Text("a repair resets it")))
        if not await self._order.is_sound():
            problem = Text("the index of the deliveries does not match them")
            found.append(StateFinding("outbox", "order", problem, Text("a repair rebuilds it")))
        return found


def _problems_of(seq: str, text: str, *, dead: bool) -> list[str]:
    """Return the problems of a finished delivery."""
    _, problems = codec.finished(seq, text, dead=dead)
    if dead and stored.Reading().json(codec.record(text).get("body"), "") is None:
        return [*problems, Text("body is not valid JSON")]
    return problems


class RedisInspection(RedisLease):
    """Inspects the whole state and repairs it, for `shop-poller state`. A repair takes the lease."""

    async def inspect(self, shop_id: str) -> list[StateFinding]:
        """Return everything that is wrong with the state. Changes nothing."""
        return await self._inspection(shop_id).findings()

    async def repair(self, shop_id: str) -> list[StateFinding]:
        """Repair what can be repaired, and keep copies.

        Returns:
            What was wrong.

        Raises:
            PermanentError: STORE, another process has the lease.
        """
        self._connection.has_wrong_type = True  # the key of the lease may have the wrong type too
        if not await self.take():
            holder = await self.holder()
            raise PermanentError(
                ErrorKind.STORE,
                Text("{holder} has the lease and works on this shop; stop it first", holder=holder),
            )
        inspection = self._inspection(shop_id)
        wrong = await inspection.wrong_types()
        if wrong:
            await self._commits.move_wrong_keys(shop_id, self.now(), await self._order.lane_types())
        self._connection.has_wrong_type = False
        return wrong + await inspection.repair()

    async def forget_set_aside(self, shop_id: str) -> int:  # noqa: ARG002 - a prefix has one shop
        """Delete the copies of damaged rows."""
        return await self._aside.forget()

    def _inspection(self, shop_id: str) -> Inspection:
        return Inspection(
            self._connection,
            self._keys,
            order=self._order,
            aside=self._aside,
            shop_id=shop_id,
            now=self.now(),
        )
