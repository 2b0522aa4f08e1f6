"""Deliberate bugs, to show that the judge bites: each has to be found within so many seeds, from 0 on.

That a daemon ends by an exception finds none: it would as well if the bug were only made badly.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from shop_poller.core.errors import TemporaryError
from shop_poller.core.model import Page
from shop_poller.core.retry import DeadLetter
from shop_poller.dispatcher import CLAIM_BATCH
from shop_poller.ports import Ack, Release
from simulation.world import Plan


@dataclass(frozen=True)
class Bug:
    """Something that somebody might have got wrong.

    Attributes:
        holder: a module or class of the product.
        name: what of it is replaced.
        made: makes the replacement from what was there.
        within: seeds that it has to be found in.
        only: in which worlds it can show at all, or shows soonest; the others are passed by.
    """

    holder: str
    name: str
    made: Callable[[Any], Any]
    within: int
    only: Callable[[Plan], bool] = lambda _: True

    def can_show(self, seed: int) -> bool:
        """Whether that seed's world is one of those."""
        return self.only(Plan.of(Random(seed)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The product has it for as long as this lasts."""
        holder = resolve_name(f"shop_poller.{self.holder}")
        with patch.object(holder, self.name, self.made(getattr(holder, self.name))):
            yield


def _ack_before_send(_: Any) -> Any:
    async def _send(self: Any, queued: Any, outcomes: Any) -> None:
        async with queued, outcomes:
            async for delivery in queued:
                await outcomes.send([Ack(delivery)])
                await self._courier.deliver(delivery)

    return _send


def _cursor_before_commit(commit: Any) -> Any:
    async def commit_state_first(self: Any, state: Any, page: Page, **what: Any) -> None:
        if what.get("known"):
            await commit(self, state, Page((), page.shop_time))
        await commit(self, state, page, **what)

    return commit_state_first


def _outbox_after_commit(commit: Any) -> Any:
    def in_two_steps(db: Any, shop_id: str, batch: Any) -> None:
        commit(db, shop_id, replace(batch, outgoing=()))
        if batch.now.microsecond < 900_000:  # a kill between the two, one time in ten
            commit(db, shop_id, batch)

    return in_two_steps


def _no_overlap(start: Any) -> Any:
    return lambda cursor, **what: start(cursor, **what | {"overlap": type(what["overlap"])(0)})


def _cursor_to_now(step: Any) -> Any:
    def step_to_now(walk: Any, page: Page, **what: Any) -> Any:
        taken = step(walk, page, **what)
        return replace(taken, cursor=page.shop_time)

    return step_to_now


def _jitter_before_clamp(_: Any) -> Any:
    def full_jitter(attempt: int, *, base_s: float, cap_s: float, chance: float) -> float:
        return min(cap_s, base_s * 2.0 ** min(attempt - 1, 30) * chance)

    return full_jitter


def _no_nonce(_: Any) -> Any:
    async def fenced(self: Any, script: str, keys: Any, args: Any) -> Any:
        return await self.call(script, keys, [await self.read("GET", keys[0]) or "", *args])

    return fenced


def _any_row(_: Any) -> Any:
    from shop_poller.clock import ms  # noqa: PLC0415
    from shop_poller.stores.sqlite import codec  # noqa: PLC0415

    # What is no head has no age as one; or the claim would break, and be found by that.
    columns = codec.DELIVERY.replace("head_since", "coalesce(head_since, created_at)")

    def claim(db: Any, sink: str, now: Any, limit: int) -> Any:
        rows = db.execute(
            f"SELECT {columns} FROM outbox WHERE sink = ? AND due_at <= ?"
            " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY due_at, seq LIMIT ?",
            (sink, ms(now), limit),
        ).fetchall()
        db.executemany("INSERT INTO temp.claimed VALUES (?)", ((row[0],) for row in rows))
        return [codec.delivery(row) for row in rows]

    return claim


def _greedy(claim: Any) -> Any:
    async def claim_much(self: Any, queue: Any) -> Any:
        queue._state.max_buffer_size = math.inf  # or it would refuse what is too much
        self._plan = replace(self._plan, queue_size=CLAIM_BATCH)
        return await claim(self, queue)

    return claim_much


def _nothing(_: Any) -> Any:
    return lambda *_, **__: None


def _blind_send(send: Any) -> Any:
    async def _send(self: Any, delivery: Any) -> None:
        self._may_send = lambda: True
        await send(self, delivery)

    return _send


def _forgetful(_: Any) -> Any:
    async def record_once(self: Any, batch: Any) -> bool:
        with suppress(TemporaryError):
            await self._store.settle(batch, self._now())
        return False

    return record_once


def _all_taken(send_all: Any) -> Any:
    async def _send_all(self: Any, bulk: Any, deliveries: Any) -> Any:
        return [None for _ in await send_all(self, bulk, deliveries)]

    return _send_all


def _other_way_round(send_all: Any) -> Any:
    async def _send_all(self: Any, bulk: Any, deliveries: Any) -> Any:
        return (await send_all(self, bulk, deliveries))[::-1]

    return _send_all


def _all_again(send_all: Any) -> Any:
    async def _send_all(self: Any, bulk: Any, deliveries: Any) -> Any:
        before = getattr(self, "before", ())
        is_second = {one.seq for one in deliveries} <= {one.seq for one in before}
        self.before = before if is_second else list(deliveries)
        errors = await send_all(self, bulk, self.before)
        became = {one.seq: error for one, error in zip(self.before, errors, strict=True)}
        return [became[one.seq] for one in deliveries]

    return _send_all


def _only_what_was_taken(deliver_all: Any) -> Any:
    async def only_acks(self: Any, deliveries: Any) -> Any:
        async for some in deliver_all(self, deliveries):
            yield [one for one in some if isinstance(one, Ack)]

    return only_acks


def _on_redis(plan: Plan) -> bool:
    return plan.on_redis


def _in_bulk(plan: Plan) -> bool:
    return plan.in_bulk


def _for_hours(plan: Plan) -> bool:
    return plan.interval_s > 60


BUGS = {
    "ack before send": Bug("dispatcher.Dispatcher", "_send", _ack_before_send, 20),
    "cursor before commit": Bug("ledger.Ledger", "commit", _cursor_before_commit, 20),
    "outbox after commit": Bug("stores.sqlite.orders", "commit", _outbox_after_commit, 100),
    "cursor at the shop's clock": Bug("core.cursor", "step", _cursor_to_now, 200),
    "no overlap": Bug("core.cursor", "start", _no_overlap, 200),
    "jitter before clamp": Bug("core.retry", "full_jitter", _jitter_before_clamp, 100, _for_hours),
    "no nonce": Bug("stores.redis.connection.Connection", "fenced", _no_nonce, 400, _on_redis),
    "no look at the lease before sending": Bug("courier.Courier", "_send", _blind_send, 400, _on_redis),
    "any row may be claimed": Bug("stores.sqlite.outbox", "claim", _any_row, 20),
    "more is claimed than there is room for": Bug("dispatcher.Dispatcher", "_claim", _greedy, 20),
    "claims outlive the lease": Bug(
        "stores.redis.outbox.Outbox",
        "forget",
        _nothing,
        1200,
        lambda plan: plan.on_redis and not plan.in_bulk,
    ),
    "what was not tried counts as delivered": Bug("courier", "Release", lambda _: Ack, 20),
    "what was delivered counts as not tried": Bug("courier", "Ack", lambda _: Release, 20),
    "the first failure buries": Bug("core.retry", "after_failure", lambda _: _bury, 20),
    "an id of chance": Bug("core.messages", "event_id", lambda _: lambda *_: str(uuid4()), 20),
    "no breaker": Bug("circuit.Circuit", "_move", _nothing, 20),
    "deaf to Retry-After": Bug("sinks.http", "retry_after_s", _nothing, 200),
    "what cannot be recorded is forgotten": Bug("settler.Settler", "_record", _forgetful, 400),
    "a batch counts as delivered, whatever failed": Bug(
        "courier.Courier", "_send_all", _all_taken, 40, _in_bulk
    ),
    "a batch's answers are taken for one another's": Bug(
        "courier.Courier", "_send_all", _other_way_round, 100, _in_bulk
    ),
    "a batch is sent again with what was taken": Bug(
        "courier.Courier", "_send_all", _all_again, 100, _in_bulk
    ),
    "what failed of a batch is never settled": Bug(
        "courier.Courier", "deliver_all", _only_what_was_taken, 40, _in_bulk
    ),
    "deaf to the shop's Retry-After": Bug(
        "fetcher", "_asked_s", _nothing, 500, lambda plan: not plan.in_bulk
    ),
}


def _bury(*_: Any, **__: Any) -> DeadLetter:
    return DeadLetter("made up")
