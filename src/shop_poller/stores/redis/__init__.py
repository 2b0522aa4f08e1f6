"""The state in Redis 6.2 or later, or Valkey: several replicas may share it, one of which may write.

Every write, but for those made beside whoever leads, is a Lua script that compares the lease's nonce first,
so that a process that lost the lease, and does not know it yet, changes nothing. Claims live in memory: those
of a process that dies are void at once.
docs/redis.md tells what stands where, and what happens when Redis is in trouble.
"""

import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

from shop_poller.clock import ms, now, to_milliseconds
from shop_poller.config.redis_address import RedisAddress
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.ports import (
    Alert,
    Backfill,
    Batch,
    DeadLetter,
    DeliveredEntry,
    DeliveryRecord,
    FinishedDelivery,
    NewDelivery,
    Outcome,
    RowSetAside,
    ShopState,
    Stats,
)
from shop_poller.stores.damage import StateFinding
from shop_poller.stores.redis import server
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.client import Client, make_client
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection
from shop_poller.stores.redis.dead_letters import DeadLetters
from shop_poller.stores.redis.inspection import Inspection
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.outbox import Outbox
from shop_poller.stores.redis.shops import Shops

SET_AHEAD_S = 1.0
"""The server's clock was set if it is ahead by more; by less a lease's margin allows for."""
ANY_TIME = 2**53
LEASE_S = 10.0
"""How long the right to write outlives a process that is killed; others take over within this and a try."""


class RedisStore:
    """The state under one prefix of keys. For the methods see ports.Store.

    Args:
        address: the server, or servers.
        prefix: of every key.
        first_shop: the shop whose keys are named as the design before this one did.
        make: makes the client; tests have their own.
        line: that the stores of several shops share; else it gets one of its own.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        first_shop: str,
        make: Callable[[RedisAddress], Client] = make_client,
        line: ConnectionPool | None = None,
    ) -> None:
        self.term_s = LEASE_S
        self._address = address
        self._keys = Keys(prefix, first_shop)
        self._connection = RedisConnection(
            address, line or ConnectionPool(make(address)), shared=line is not None
        )
        self._aside = Aside(self._connection, self._keys)
        self._shops = Shops(self._connection, self._keys, self._aside)
        self._outbox = Outbox(self._connection, self._keys, self._aside)
        self._dead_letters = DeadLetters(self._connection, self._keys, self._outbox)
        self._anchor: tuple[datetime, float] | None = None  # the server's clock, and ours that nobody sets
        self._unsure_s = 0.0  # by how much either may be off: the answer took so long, twice
        self._not_before = -math.inf  # nothing is taken, in monotonic seconds
        self._unanswered = False

    # --- the lease and the clock ----------------------------------------------------------------------------

    def now(self) -> datetime:
        """The server's clock, so that replicas with clocks of their own agree on what is due."""
        if self._anchor is None:
            return now()
        theirs, at = self._anchor
        return to_milliseconds(theirs + timedelta(seconds=time.monotonic() - at))

    @property
    def nonce(self) -> str:
        """Proves that the lease is ours; "" until it was asked for."""
        return self._connection.nonce

    async def ask_clock(self) -> None:
        """Learn the server's clock, which a process that never asked for the lease has not heard."""
        await self._lease("look")

    async def take(self) -> bool:
        """Take the right to write, if nobody has it; what was in memory of an earlier time is void."""
        if not self._unanswered:  # or else it may be ours by the nonce of before
            self._connection.nonce = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(8)}"
        self._connection.torn = False
        self._shops.forget()
        self._outbox.forget()
        if time.monotonic() < self._not_before:
            await self._lease("look")
            return False
        self._unanswered = True
        if self._connection.has_wrong_type:
            await self._aside.move_wrong_keys({self._keys.lease: "string"}, self.now())
        owner = await self._lease("take", latest_ms=self._latest_ms())
        self._unanswered = False
        return owner == self._connection.nonce

    def _latest_ms(self) -> int:
        """What the server's clock cannot be beyond, as far as we know; see scripts/lease.lua."""
        if self._anchor is None:
            return ANY_TIME
        return ms(self.now()) + round((self._unsure_s + SET_AHEAD_S) * 1000)

    async def renew(self) -> bool:
        """Keep the right to write; False if it was lost, or the state is not what we left there."""
        if self._connection.has_wrong_type and await self._has_wrong_type():
            return False  # it is moved out of the way before work begins again
        return not self._connection.torn and await self._lease("renew") == self._connection.nonce

    async def _has_wrong_type(self) -> bool:
        """Whether a key of the wrong type that was met is still there."""
        expected = {**self._keys.types(self._keys.first_shop), **await self._lane_types()}
        self._connection.has_wrong_type = bool(await self._aside.wrong_keys(expected))
        return self._connection.has_wrong_type

    async def release(self) -> None:
        """Let others have the right to write."""
        await self._lease("release")

    async def holder(self) -> str:
        """Who has the right to write: host and process; "" for nobody."""
        return _person(await self._connection.read("GET", self._keys.lease) or "")

    async def check(self) -> str:
        """See whether the server can be used; changes nothing.

        Returns:
            One line on what was found.

        Raises:
            TemporaryError, PermanentError: STORE, with what to do.
        """
        owner = await self._lease("look")  # shows, too, that scripts may be run on our keys
        info = await self._connection.read("INFO")
        if "redis_version" not in info:  # a Cluster: an answer a node
            info = next(iter(info.values()))
        problem = server.problem(info)
        if problem:
            raise PermanentError(ErrorKind.STORE, f"state in {self._address.place}: {problem}")
        led_by = f"led by {_person(owner)}" if owner else "led by nobody now"
        return f"answers ({server.describe(info)}), {led_by}"

    async def _lease(self, verb: str, *, latest_ms: int = ANY_TIME) -> str:
        args: list[str | int] = [verb, self._connection.nonce, round(self.term_s * 1000), latest_ms]
        requested_at = time.monotonic()
        together = self._connection.renewals
        if verb == "renew" and together is not None:
            *answer, requested_at = await together.renew(
                self._keys.lease, self._connection.nonce, round(self.term_s * 1000)
            )
        else:
            run = self._connection.keep if verb == "renew" else self._connection.unfenced
            answer = await run("lease", [self._keys.lease], args)
        owner, seconds, micros = answer
        theirs = datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(micros))
        answered_at = time.monotonic()
        before, unsure_s = self._anchor, self._unsure_s
        self._anchor = theirs, (requested_at + answered_at) / 2
        self._unsure_s = (answered_at - requested_at) / 2
        if before is not None and verb == "take":
            ahead_s = (theirs - before[0]).total_seconds() - (self._anchor[1] - before[1])
            if ahead_s - unsure_s - self._unsure_s > SET_AHEAD_S:
                # It ended leases before their time: who had ours may not know yet, and send for a term more.
                self._not_before = answered_at + self.term_s
        return str(owner)

    # --- shops ----------------------------------------------------------------------------------------------

    async def load(self, shop_id: str) -> ShopState | None:
        """A shop's state, if any."""
        return await self._shops.load(shop_id)

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """Load or begin a shop's state; take over what the design before this one left."""
        await self._shops.move_wrong_keys(shop_id, now, await self._lane_types())
        await self._outbox.mend(now)
        return await self._shops.register(shop_id, now)

    async def _lane_types(self) -> dict[str, str]:
        """The type of the keys that each lane has; {} if their list itself is of the wrong type."""
        if not self._connection.has_wrong_type or await self._aside.wrong_keys({self._keys.lanes: "set"}):
            return {}
        return {
            key: "zset" for shop, sink in await self._outbox.lanes() for key in self._keys.lane(shop, sink)
        }

    async def snapshot(self, shop_id: str, now: datetime) -> tuple[ShopState, list[KnownOrder]]:
        """What `register` would give, and every record; needs no lease and writes nothing."""
        return await self._shops.snapshot(shop_id, now)

    async def known(self, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """What is known of these orders."""
        return await self._shops.known(shop_id, list(ids))

    async def open_orders(self, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Orders that may still change."""
        return await self._shops.open_orders(shop_id, after_id, limit)

    async def backfill(self, shop_id: str) -> Backfill | None:
        """How far the last backfill has come."""
        return await self._shops.backfill(shop_id)

    async def import_concurrently(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Record orders of which nothing is known."""
        return await self._shops.import_concurrently(shop_id, records, position, now)

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """The orders that could not be read."""
        return await self._shops.set_aside(shop_id)

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Change known orders, outbox and state at once."""
        await self._shops.commit(shop_id, batch)

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """The alerts raised now."""
        return await self._shops.alerts(shop_id)

    async def raise_alert(
        self, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Remember an alert and send it."""
        await self._shops.write_alert(shop_id, alert.service, alert, new_deliveries, now)

    async def clear_alert(
        self, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Forget an alert and send its end."""
        await self._shops.write_alert(shop_id, service, None, new_deliveries, now)

    async def stats(self, shop_id: str) -> Stats:
        """Count what lies in the store."""
        known, set_aside = await self._shops.count(shop_id)
        return Stats(
            known=known,
            set_aside=set_aside,
            sinks=await self._outbox.stats(shop_id),
            rows_set_aside=await self._aside.count(),
        )

    async def rows_set_aside(self, shop_id: str) -> list[RowSetAside]:  # noqa: ARG002 - a prefix is one shop's
        """The stored rows that were damaged."""
        return await self._aside.rows()

    async def finished(
        self,
        shop_id: str,
        *,
        dead: bool,
        limit: int,
        sink: str | None = None,
        after: datetime | None = None,
    ) -> list[FinishedDelivery]:
        """What was delivered or given up."""
        return await self._outbox.finished(shop_id, dead=dead, limit=limit, only=sink, after=after)

    async def by_the_hour(self, shop_id: str, *, dead: bool, before: datetime, hours: int) -> list[int]:
        """How many were made, or given up, in each hour."""
        return await self._dead_letters.by_the_hour(shop_id, dead, before, hours)

    async def dead_ids(
        self,
        shop_id: str,
        *,
        sink: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[int]:
        """The dead letters' seqs."""
        return await self._dead_letters.dead_ids(shop_id, sink=sink, since=since, before=before)

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter."""
        return await self._dead_letters.dead_letter(shop_id, seq)

    async def replay_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back behind what waits."""
        return await self._dead_letters.replay(shop_id, seqs, now)

    async def drop_concurrently(self, shop_id: str, seqs: Collection[int]) -> int:
        """Forget dead letters."""
        return await self._dead_letters.drop(shop_id, seqs, self.now())

    async def delivered(self, shop_id: str, *, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """What was delivered within a time."""
        return await self._dead_letters.delivered(shop_id, since, before)

    async def resend_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put deliveries that were made back behind what waits."""
        return await self._dead_letters.resend(shop_id, seqs, now)

    async def delivery_records(self, shop_id: str, keys: Collection[str]) -> list[DeliveryRecord]:
        """What became of the deliveries of these keys."""
        return await self._outbox.delivery_records(shop_id, frozenset(keys))

    async def inspect(self, shop_id: str) -> list[StateFinding]:
        """Everything that is wrong with the state; changes nothing."""
        return await self._inspection(shop_id).findings()

    async def repair(self, shop_id: str) -> list[StateFinding]:
        """Put right what can be, and keep copies.

        Returns:
            What was wrong.

        Raises:
            PermanentError: STORE, another process has the lease.
        """
        self._connection.has_wrong_type = True  # the lease itself may be one
        if not await self.take():
            holder = await self.holder()
            raise PermanentError(
                ErrorKind.STORE, f"{holder} has the lease and works on this shop; stop it first"
            )
        inspection = self._inspection(shop_id)
        wrong = await inspection.wrong_types()
        if wrong:
            await self._shops.move_wrong_keys(shop_id, self.now(), await self._lane_types())
        self._connection.has_wrong_type = False
        return wrong + await inspection.repair()

    def _inspection(self, shop_id: str) -> Inspection:
        return Inspection(
            self._connection,
            self._keys,
            outbox=self._outbox,
            aside=self._aside,
            shop_id=shop_id,
            now=self.now(),
        )

    async def forget_set_aside(self, shop_id: str) -> int:  # noqa: ARG002 - a prefix is one shop's
        """Drop the copies of damaged rows."""
        return await self._aside.forget()

    async def prune(self, shop_id: str, *, seen_before: datetime, finished_before: datetime) -> int:
        """Drop what is old."""
        await self._aside.prune(seen_before)
        dropped = await self._shops.prune(shop_id, seen_before)
        return dropped + await self._outbox.prune(shop_id, finished_before)

    async def redate(self, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Date back what is dated in the future."""
        changed = await self._shops.redate(shop_id, after, to)
        return changed + await self._outbox.redate(shop_id, after, to)

    # --- the outbox -----------------------------------------------------------------------------------------

    async def claim(self, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Take due deliveries."""
        return await self._outbox.claim(sink, now, limit)

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record what became of claimed deliveries."""
        await self._outbox.record_outcomes(outcomes, now)

    async def release_parked(self, sink: str) -> bool:
        """Make parked deliveries due, some at a time."""
        return await self._outbox.release_parked(sink)

    async def clamp_due(self, sink: str, *, latest: datetime) -> int:
        """Let nothing be due later than that."""
        return await self._outbox.clamp_due(sink, latest)

    async def next_due(self, sink: str) -> datetime | None:
        """When the next delivery is due."""
        return await self._outbox.next_due(sink)

    async def dead_letter_expired(self, sink: str, *, head_before: datetime, now: datetime) -> int:
        """Bury what waited too long."""
        return await self._outbox.dead_letter_expired(sink, head_before, now)

    async def aclose(self) -> None:
        """Let go of the lease and of the connections."""
        if self._connection.closed:
            return
        try:
            if self._connection.nonce:
                await self.release()
        except TemporaryError:
            pass  # it ends by itself
        finally:
            await self._connection.aclose()


def _person(owner: str) -> str:
    """A holder of the lease for people: host and process, without what proves it."""
    return "/".join(owner.split("/")[:2])
