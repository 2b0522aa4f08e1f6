"""Deliberate bugs, to show that the judge bites: each has to be found within so many seeds, from 0 on.

A crash of the daemon does not count as finding a bug: it would crash as well if the bug were only made badly.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import anyio

from shop_poller.core.attempts import AttemptLog
from shop_poller.core.errors import ShopPollerError, TemporaryError
from shop_poller.core.model import EventType, Page
from shop_poller.core.retry import GiveUp
from shop_poller.delivery.dispatcher import CLAIM_BATCH
from shop_poller.mutes import LONGEST
from shop_poller.ports import Ack, Release
from simulation.fleets import FleetPlan, is_fleet
from simulation.plan import AS_IT_COMES, Emphasis, Plan
from simulation.readers import is_read
from simulation.standard_error import blocks_log
from simulation.visitors import sends_hooks

SOON_S = 1800.0
"""Where nothing happens but what the emphasis names, all comes right within that time."""


@dataclass(frozen=True)
class Bug:
    """Something that somebody might have got wrong.

    Attributes:
        holder: a module or class of the product.
        name: what of it is replaced.
        made: makes the replacement from what was there.
        within: seeds that it has to be found in.
        only: in which worlds of one shop it can show at all, or shows soonest; the others are passed by.
        fleets: likewise, in which worlds of fleets; then it is not looked for in those of one shop.
        where: likewise, by the seed: for what only the seed decides.
        emphasis: what happens often in these worlds. Without it some bugs show in one world of hundreds, and
            which one that is changes with every change of the product.
    """

    holder: str
    name: str
    made: Callable[[Any], Any]
    within: int
    only: Callable[[Plan], bool] | None = None
    fleets: Callable[[FleetPlan], bool] | None = None
    where: Callable[[int], bool] | None = None
    emphasis: Emphasis = AS_IT_COMES

    def can_show(self, seed: int) -> bool:
        """Whether that seed's world is one of those."""
        if self.where is not None and (is_fleet(seed) or not self.where(seed)):
            return False
        if is_fleet(seed):
            if self.fleets is None:
                return self.only is None
            return self.fleets(FleetPlan.of(Random(seed)))
        return self.fleets is None and (self.only is None or self.only(Plan.of(Random(seed))))

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
                await self._sender.deliver(delivery)

    return _send


def _cursor_before_commit(commit: Any) -> Any:
    async def commit_state_first(self: Any, state: Any, page: Page, **what: Any) -> None:
        if what.get("known"):
            await commit(self, state, Page((), page.shop_time))
        await commit(self, state, page, **what)

    return commit_state_first


def _outbox_after_commit(commit: Any) -> Any:
    async def in_two_steps(self: Any, shop_id: str, batch: Any) -> None:
        await commit(self, shop_id, replace(batch, new_deliveries=()))
        if batch.now.microsecond < 900_000:  # a kill between the two, one time in ten
            await commit(self, shop_id, batch)

    return in_two_steps


def _no_overlap(start: Any) -> Any:
    return lambda cursor, **what: start(cursor, **what | {"overlap": type(what["overlap"])(0)})


def _cursor_to_now(step: Any) -> Any:
    def step_to_now(walk: Any, page: Page, **what: Any) -> Any:
        taken = step(walk, page, **what)
        return replace(taken, cursor=page.shop_time)

    return step_to_now


def _ends_by_page_size(advance: Any) -> Any:
    def end_with_a_short_page(self: Any, page: Page, per_page: int) -> Any:
        return None if len(page.items) < per_page else advance(self, page, per_page)

    return end_with_a_short_page


def _cursor_past_unread(step: Any) -> Any:
    def step_to_now_in_the_middle(walk: Any, page: Page, **what: Any) -> Any:
        taken = step(walk, page, **what)
        return replace(taken, cursor=page.shop_time) if taken.walk is not None else taken

    return step_to_now_in_the_middle


def _newer_only(_: Any) -> Any:
    return lambda *_: False  # what is dated before what is known contradicts nothing


def _jitter_before_clamp(_: Any) -> Any:
    def full_jitter(attempt: int, *, base_s: float, cap_s: float, random: float) -> float:
        return min(cap_s, base_s * 2.0 ** min(attempt - 1, 30) * random)

    return full_jitter


def _no_nonce(_: Any) -> Any:
    async def fenced(self: Any, script: str, keys: Any, args: Any) -> Any:
        return await self.call(script, keys, [await self.read("GET", keys[0]) or "", *args])

    return fenced


def _any_row(_: Any) -> Any:
    from shop_poller.clock import ms  # noqa: PLC0415
    from shop_poller.stores.sqlite import codec  # noqa: PLC0415
    from shop_poller.stores.sqlite.connection import in_thread  # noqa: PLC0415

    # What is no head has no age as one; or the claim would break, and be found by that.
    columns = codec.DELIVERY_COLUMNS.replace("head_since", "coalesce(head_since, created_at)")

    @in_thread
    def claim(_port: Any, db: Any, sink: str, *, now: Any, limit: int) -> Any:
        rows = db.execute(
            f"SELECT {columns} FROM outbox WHERE sink = ? AND due_at <= ?"
            " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY due_at, seq LIMIT ?",
            (sink, ms(now), limit),
        ).fetchall()
        db.executemany("INSERT INTO temp.claimed VALUES (?)", ((row[0],) for row in rows))
        return [codec.delivery(row, now)[0] for row in rows]

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
            await self._outbox.record_outcomes(batch, self._now())
        return False

    return record_once


def _unnoted(_: Any) -> Any:
    async def _attempt(self: Any, delivery: Any, *_: Any) -> float:
        await self._send(delivery)
        return anyio.current_time()

    return _attempt


def _only_the_last_claim(_: Any) -> Any:
    return lambda _, made: AttemptLog(len(made), tuple(made))


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


def _final_at_once(refused: Any) -> Any:
    def refused_for_good(self: Any, seq: int, **what: Any) -> Any:
        return replace(refused(self, seq, **what), is_final=True)

    return refused_for_good


def _triggering(refuse: Any) -> Any:
    def refuse_and_trigger(self: Any, *args: Any, **what: Any) -> Any:
        self._trigger()
        return refuse(self, *args, **what)

    return refuse_and_trigger


def _wants_what_is_placed(wants: Any) -> Any:
    return lambda self, event_type, level: wants(replace(self, is_for_people=True), event_type, level)


def _takes_every_cancellation(takes: Any) -> Any:
    return lambda self, notification: (
        takes(self, notification) or notification.event_type == EventType.CANCELLED
    )


def _endless_mute(_: Any) -> Any:
    return lambda until, now: min(max((until - now).total_seconds(), 0.0), LONGEST.total_seconds())


def _group_taken_for_granted(_: Any) -> Any:
    async def send_gathered(self: Any, delivery: Any, outcomes: Any, _: Any) -> None:
        outcome = await self._sender.deliver(delivery)
        rows = getattr(delivery, "rows", ())
        await outcomes.send([Ack(row) for row in rows] if rows else [outcome])

    return send_gathered


def _only_the_first_of_a_group(send_gathered: Any) -> Any:
    async def send_for_the_first(self: Any, delivery: Any, outcomes: Any, gathering: Any) -> None:
        if rows := getattr(delivery, "rows", ()):
            delivery = replace(delivery, rows=rows[:1])
            self._outcome_recorder.in_flight -= len(rows) - 1
        await send_gathered(self, delivery, outcomes, gathering)

    return send_for_the_first


def _one_left_out(compose: Any) -> Any:
    def compose_without_the_last(self: Any, rows: Any) -> Any:
        group = compose(self, rows[:-1] if len(rows) > 2 else rows)
        return replace(group, rows=tuple(rows))

    return compose_without_the_last


def _with_hooks(plan: Plan) -> bool:
    return plan.interval_s >= 60 and not plan.sweep_s


def _once_leased(leased: Any) -> Any:
    async def remembered(self: Any, prefixes: Any) -> Any:
        self.ever = getattr(self, "ever", set()) | {
            one for one, is_leased in zip(prefixes, await leased(self, prefixes), strict=True) if is_leased
        }
        return [one in self.ever for one in prefixes]

    return remembered


def _deaf_to_the_end(_: Any) -> Any:
    async def renew(self: Any) -> None:
        while True:
            await anyio.sleep(self._lease.term_s / 4)
            with suppress(TemporaryError):
                await self._lease.renew()
            self._good_from(anyio.current_time())

    return renew


def _one_line(hold: Any) -> Any:
    lock: list[Any] = []

    @asynccontextmanager
    async def hold_one_for_all(self: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not lock or lock[0][0] is not loop:
            lock[:] = [(loop, anyio.Lock())]
        async with lock[0][1]:
            try:
                async with hold(self):
                    yield
            except ShopPollerError:
                await anyio.sleep(60)
                raise

    return hold_one_for_all


def _always_healthy(_: Any) -> Any:
    async def health(_: Any) -> dict[str, str]:
        return {"status": "healthy"}

    return health


def _unhealthy_for_one(health: Any) -> Any:
    async def unhealthy_for_one(self: Any) -> Any:
        if any(slot.is_unwell for slot in self._fleet.slots.values()):
            return {"status": "unhealthy", "reason": "no shop is polled"}
        return await health(self)

    return unhealthy_for_one


def _often(*actions: str, **more: Any) -> Emphasis:
    return Emphasis(actions, **more)


def _any_fleet(_: FleetPlan) -> bool:
    return True


def _shared(plan: FleetPlan) -> bool:
    return plan.processes > 1


def _slow(plan: FleetPlan) -> bool:
    return plan.processes == 1 and plan.gap_s >= 30


def _slow_files(plan: FleetPlan) -> bool:
    return not plan.on_redis and plan.gap_s >= 30


def _on_redis(plan: Plan) -> bool:
    return plan.on_redis


def _on_file(plan: Plan) -> bool:
    return not plan.on_redis


def _in_bulk(plan: Plan) -> bool:
    return plan.in_bulk


def _for_hours(plan: Plan) -> bool:
    return plan.interval_s > 60


def _capped(plan: Plan) -> bool:
    return "capped" in plan.shop.kinds


def _dated_back(plan: Plan) -> bool:
    return "older stamps" in plan.shop.kinds


BUGS = {
    "ack before send": Bug("delivery.dispatcher.Dispatcher", "_send", _ack_before_send, 100),
    "cursor before commit": Bug("polling.state_writer.StateWriter", "commit", _cursor_before_commit, 100),
    "outbox after commit": Bug(
        "stores.sqlite.orders.SqliteOrderState",
        "commit",
        _outbox_after_commit,
        100,
        emphasis=_often("_create", alone=True, patience_s=SOON_S),
        only=_on_file,
    ),
    "cursor at the shop's clock": Bug("core.cursor", "step", _cursor_to_now, 200, emphasis=_often("_crowd")),
    "a walk ends with a short page": Bug(
        "core.cursor.KeysetPosition",
        "advance",
        _ends_by_page_size,
        100,
        _capped,
        emphasis=_often("_create", "_crowd", alone=True),
    ),
    "the cursor moves past unread orders": Bug(
        "core.cursor", "step", _cursor_past_unread, 100, emphasis=_often("_crowd")
    ),
    "a sweep goes by dates": Bug(
        "polling.order_processor",
        "contradicts",
        _newer_only,
        100,
        _dated_back,
        emphasis=_often("_create", "_change_dated_back", alone=True, patience_s=SOON_S),
    ),
    "no overlap": Bug(
        "core.cursor",
        "start",
        _no_overlap,
        200,
        emphasis=_often("_create", "_change", alone=True, patience_s=SOON_S),
    ),
    "jitter before clamp": Bug("core.retry", "full_jitter", _jitter_before_clamp, 100, _for_hours),
    "no nonce": Bug(
        "stores.redis.connection.RedisConnection",
        "fenced",
        _no_nonce,
        400,
        _on_redis,
        emphasis=_often("_freeze_before_a_write", "_create", alone=True),
    ),
    "no look at the lease before sending": Bug(
        "delivery.sender.Sender", "_send", _blind_send, 400, _on_redis, emphasis=_often("_freeze")
    ),
    "any row may be claimed": Bug(
        "stores.sqlite.outbox.SqliteOutbox",
        "claim",
        _any_row,
        100,
        emphasis=_often("_refusal", "_create", *["_change"] * 3, alone=True),
    ),
    "more is claimed than there is room for": Bug(
        "delivery.dispatcher.Dispatcher", "_claim", _greedy, 100, emphasis=_often("_crowd")
    ),
    "claims outlive the lease": Bug(
        "stores.redis.port.Claims",
        "forget",
        _nothing,
        1200,
        lambda plan: plan.on_redis and not plan.in_bulk,
        emphasis=_often("_store_outage", "_create", "_mood", moods=("slow",), alone=True, patience_s=SOON_S),
    ),
    "what was not tried counts as delivered": Bug(
        "delivery.sender",
        "Release",
        lambda _: Ack,
        100,
        emphasis=_often("_terminate", "_crowd", "_mood", moods=("slow", "silent"), alone=True),
    ),
    "what was delivered counts as not tried": Bug("delivery.sender", "Ack", lambda _: Release, 100),
    "the first failure buries": Bug(
        "core.retry",
        "after_failure",
        lambda _: _move_to_dead_letters,
        100,
        emphasis=_often("_mood", moods=("failing", "down", "busy")),
    ),
    "the first 404 of a receiver that starts is final": Bug(
        "core.refusals.Refusals",
        "refused",
        _final_at_once,
        400,
        emphasis=_often("_mood", moods=("starting",)),
    ),
    "an id of chance": Bug("core.messages", "event_id", lambda _: lambda *_: str(uuid4()), 100),
    "no breaker": Bug(
        "circuit_breaker.Circuit", "_move", _nothing, 100, emphasis=_often("_mood", moods=("down", "failing"))
    ),
    "deaf to Retry-After": Bug(
        "sinks.http.sink", "retry_after_s", _nothing, 200, emphasis=_often("_mood", moods=("limited",))
    ),
    "what cannot be recorded is forgotten": Bug(
        "delivery.outcome_recorder.OutcomeRecorder",
        "_record",
        _forgetful,
        400,
        emphasis=_often("_refuse_outcomes", "_create", "_create", alone=True, patience_s=SOON_S),
        only=_on_file,
    ),
    "an attempt is not noted": Bug("delivery.sender.Sender", "_attempt", _unnoted, 100),
    "attempts of earlier claims are forgotten": Bug(
        "core.attempts.AttemptLog", "plus", _only_the_last_claim, 100, emphasis=_often("_mood")
    ),
    "a batch counts as delivered, whatever failed": Bug(
        "delivery.sender.Sender", "_send_all", _all_taken, 100, _in_bulk, emphasis=_often("_rush")
    ),
    "a batch's answers are taken for one another's": Bug(
        "delivery.sender.Sender",
        "_send_all",
        _other_way_round,
        400,
        _in_bulk,
        emphasis=_often("_rush", "_refusal"),
    ),
    "a batch is sent again with what was taken": Bug(
        "delivery.sender.Sender", "_send_all", _all_again, 400, _in_bulk, emphasis=_often("_rush", "_refusal")
    ),
    "what failed of a batch is never settled": Bug(
        "delivery.sender.Sender",
        "deliver_all",
        _only_what_was_taken,
        100,
        _in_bulk,
        emphasis=_often("_rush", alone=True, patience_s=SOON_S),
    ),
    "deaf to the shop's Retry-After": Bug(
        "polling.page_fetcher",
        "pause_s",
        lambda _: lambda *_: 0.0,
        500,
        lambda plan: not plan.in_bulk,
        emphasis=_often("_shop_trouble"),
    ),
    "ten minutes of maintenance": Bug(
        "polling.page_fetcher",
        "pause_s",
        lambda _: lambda _, requested_s: requested_s or 0.0,
        1300,
        lambda plan: not plan.in_bulk,
        emphasis=_often("_update_the_shop", "_create", alone=True),
    ),
    "webhooks are no hints": Bug(
        "runtime.shop_runtime.ShopRuntime",
        "_trigger",
        _nothing,
        400,
        _with_hooks,
        where=sends_hooks,
        emphasis=_often("_create"),
    ),
    "whoever signs is the shop": Bug(
        "sources.woocommerce.hooks.WebhookVerifier",
        "is_genuine",
        lambda _: lambda _, signature: bool(signature),
        300,
        where=sends_hooks,
    ),
    "what is refused is a hint all the same": Bug(
        "web.hooks.Hooks",
        "_refuse",
        _triggering,
        600,
        _with_hooks,
        where=sends_hooks,
        emphasis=_often("_create", alone=True),
    ),
    "a daemon writes its log itself": Bug(
        "observability.output.LogWriter", "start", _nothing, 200, where=blocks_log
    ),
    "dropped lines of the log are not told": Bug(
        "observability.output.LogWriter", "_drop", _nothing, 200, where=blocks_log
    ),
    "a process that is killed keeps its shops": Bug(
        "stores.redis.membership.RedisMembership", "leased", _once_leased, 300, fleets=_shared
    ),
    "a lease that is lost is not noticed": Bug(
        "runtime.lease.LeaseKeeper",
        "_renew",
        _deaf_to_the_end,
        400,
        fleets=_shared,
        emphasis=_often("_freeze", "_create", alone=True, patience_s=600.0),
    ),
    "a bad shop holds up the others": Bug("polling.limiter._Slot", "hold", _one_line, 300, fleets=_any_fleet),
    "a shop that is not reached stays": Bug(
        "runtime.balancer.Balancer",
        "_release_unreached",
        _nothing,
        600,
        fleets=_shared,
        emphasis=_often("_lose_egress", *["_create"] * 4, alone=True),
    ),
    "a group counts as delivered, whatever came of it": Bug(
        "delivery.dispatcher.Dispatcher",
        "_send_gathered",
        _group_taken_for_granted,
        400,
        where=is_read,
    ),
    "only the first of a group is recorded": Bug(
        "delivery.dispatcher.Dispatcher",
        "_send_gathered",
        _only_the_first_of_a_group,
        400,
        where=is_read,
        emphasis=_often("_crowd", "_create", alone=True, patience_s=SOON_S),
    ),
    "a group leaves one out": Bug("core.grouping.GroupFormat", "compose", _one_left_out, 400, where=is_read),
    "programs are told of orders that are not paid yet": Bug(
        "core.filters.Filter", "wants", _wants_what_is_placed, 400, where=is_read
    ),
    "people are told that an order is cancelled which they never heard of": Bug(
        "core.filters.Filter", "takes", _takes_every_cancellation, 400, where=is_read
    ),
    "an order is placed each time it waits": Bug(
        "core.transition", "was_announced", lambda _: lambda *_: False, 400, where=is_read
    ),
    "a mute mutes nobody": Bug("mutes.Mutes", "left_s", lambda _: lambda *_: 0.0, 400, where=is_read),
    "a mute lasts for ever after a clock was set back": Bug(
        "mutes",
        "_left_s",
        _endless_mute,
        1200,
        lambda plan: plan.interval_s == 60 and not plan.on_redis,
        where=is_read,
        emphasis=_often("_mute_with_a_clock_ahead", "_create", "_create", alone=True, patience_s=SOON_S),
    ),
    "a rate is for nobody": Bug(
        "core.rates.RateLimit", "wait_s", lambda _: lambda *_: 0.0, 400, where=is_read
    ),
    "quiet hours are for nobody": Bug(
        "delivery.gathering.SinkTiming", "is_quiet", lambda _: lambda *_: False, 400, where=is_read
    ),
    "/healthz is always healthy": Bug(
        "runtime.status.HealthReporter",
        "health",
        _always_healthy,
        300,
        emphasis=_often("_shop_outage", "_create", alone=True),
    ),
    "/healthz of a fleet is always healthy": Bug(
        "runtime.fleet_status.FleetStatus",
        "health",
        _always_healthy,
        900,
        fleets=_slow,
        emphasis=_often("_all_down", "_create", alone=True),
    ),
    "/healthz of a fleet is that of its worst shop": Bug(
        "runtime.fleet_status.FleetStatus", "health", _unhealthy_for_one, 300, fleets=_slow_files
    ),
}


def _move_to_dead_letters(*_: Any, **__: Any) -> GiveUp:
    return GiveUp("made up")
