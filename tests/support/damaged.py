"""A stored state with something of everything in it, and everything that is done with one."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from shop_poller.core.attempts import DELIVERED, Attempt
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.import_walk import ImportPosition, Phase
from shop_poller.core.model import EventType, KnownOrder, UnreadableOrder
from shop_poller.core.tallies import Amounts, CurrencySum, OrderTally
from shop_poller.ports import Ack, Alert, Backfill, MoveToDeadLetters, Retry, ShopState, Store
from support.deliveries import SHOP, T0, at, batch, claim, known_order, new_deliveries, put

NOW = T0 + timedelta(days=1)
STATE = ShopState(
    started_at=at(-90_000),
    baseline_at=at(-90_000),
    cursor_at=at(-60),
    last_poll_at=at(-30),
    import_position=ImportPosition(Phase.OPEN, at(-90_000), 3),
    sweep_after_id=2,
    swept_at=at(-600),
    newest_order_at=at(-300),
    silence_told_at=at(-400),
    refunds_at=at(-100),
    tallied_since=at(-90_000),
)
KNOWN = [
    known_order(1),
    known_order(2, "pending"),
    KnownOrder(
        3, "refunded", at(-50).replace(microsecond=0), announced_new=True,
        decided={EventType.NEW: 1, EventType.REFUNDED: 2},
        refund_ids=frozenset({7, 8}), silent_refund_ids=frozenset({8}),
    ),
    KnownOrder(4, "on-hold", at(-40).replace(microsecond=0), awaiting_since=at(-45).replace(microsecond=0)),
]  # fmt: skip
MADE = (Attempt(at(-401), 35, ErrorKind.SERVER, 500, "сломалось"), Attempt(at(-400), 7, DELIVERED, 204))
TALLIES = {
    date(2026, 11, 23): OrderTally(Amounts(2, 1, {"RUB": CurrencySum("₽", Decimal("1930.00"), 1)})),
    date(2026, 11, 24): OrderTally(failed=Amounts(1, 1)),
}
WAITING = {"a1", "a2", "b1", "b2", "c1", "parked"}
SINKS = ("A", "B")


async def fill(store: Store) -> None:
    """Put something of everything into a store."""
    await store.register(SHOP, at(-90_000))
    await put(store, new_deliveries("A", "9", "over"), new_deliveries("B", "9", "over"), now=at(-500))
    for sink in SINKS:
        (one,) = await claim(store, sink)
        await store.record_outcomes(
            [Ack(one, MADE) if sink == "A" else MoveToDeadLetters(one, "refused", MADE)], at(-400)
        )
    rows = [
        new_deliveries("A", "1", "a1"), new_deliveries("A", "1", "a2"), new_deliveries("A", "2", "b1"),
        new_deliveries("A", "2", "b2"), new_deliveries("B", "1", "c1"), new_deliveries("B", "2", "parked"),
    ]  # fmt: skip
    aside = [UnreadableOrder(5, "its total is no number")]
    counted = batch(*rows, state=STATE, known=KNOWN, set_aside=aside, now=at(-200))
    await store.commit(SHOP, replace(counted, tallies=TALLIES))
    for one in await claim(store, "B"):
        if one.event_id == "parked":
            await store.record_outcomes([Retry(one, at(60), "later", charged=True, new_attempts=MADE)], T0)
    for service in ("A", "dead-letters:B"):
        await store.raise_alert(SHOP, Alert(service, ErrorKind.CONNECTION, at(-100)), (), T0)
    await store.import_concurrently(SHOP, [known_order(6)], Backfill(at(-99_000), at(-95_000), 1), T0)


class Use:
    """Does with a store all that the daemon and the commands do.

    Attributes:
        refused: what it was answered that is declared, by the call.
        delivered: the events that were delivered.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.refused: dict[str, ShopPollerError] = {}
        self.delivered: set[str] = set()

    async def tried(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Only what is declared may be raised."""
        try:
            return await call()
        except ShopPollerError as error:
            refused = error
        assert refused.kind is ErrorKind.STORE
        assert "\n" not in str(refused)
        self.refused[name] = refused
        return None

    async def look(self) -> dict[int, KnownOrder]:
        """Read everything; what is known of the orders."""
        store = self.store
        for name, call in {
            "load": lambda: store.load(SHOP),
            "open_orders": lambda: store.open_orders(SHOP, after_id=0, limit=50),
            "set_aside": lambda: store.set_aside(SHOP),
            "rows_set_aside": lambda: store.rows_set_aside(SHOP),
            "alerts": lambda: store.alerts(SHOP),
            "stats": lambda: store.stats(SHOP),
            "backfill": lambda: store.backfill(SHOP),
            "tallies": lambda: store.tallies(SHOP),
            "made": lambda: store.finished(SHOP, dead=False, limit=50),
            "dead": lambda: store.finished(SHOP, dead=True, limit=50),
            "by_the_hour": lambda: store.by_the_hour(SHOP, dead=True, before=NOW, hours=48),
            "count_delivered": lambda: store.count_delivered(SHOP, since=at(-9_000), before=NOW),
            "dead_ids": lambda: store.dead_ids(SHOP),
            "dead_letter": lambda: store.dead_letter(SHOP, 2),
            "made_within": lambda: store.delivered(SHOP, since=at(-9_000), before=NOW),
            "traces": lambda: store.delivery_records(SHOP, ["1", "2", "9"]),
        }.items():
            await self.tried(name, call)
        return await self.tried("known", lambda: store.known(SHOP, [1, 2, 3, 4, 6])) or {}

    async def deliver(self, sink: str) -> None:
        """Take what is due, two deliveries at most, and record their outcomes."""
        store = self.store
        some = await self.tried("claim", partial(store.claim, sink, now=NOW, limit=2)) or []
        self.delivered |= {one.event_id for one in some}
        if some:
            await self.tried(
                "record_outcomes", partial(store.record_outcomes, [Ack(one) for one in some], NOW)
            )
        await self.tried("next_due", partial(store.next_due, sink))
        await self.tried("release_parked", partial(store.release_parked, sink))

    async def work(self) -> None:
        """Deliver all that can be delivered, replay, and write."""
        store = self.store
        for _ in range(8):
            for sink in SINKS:
                await self.deliver(sink)
        for sink in SINKS:
            expire = partial(store.dead_letter_expired, sink, head_before=at(-9_000), now=NOW)
            await self.tried("dead_letter_expired", expire)
        await self.tried("replay", partial(store.replay_concurrently, SHOP, [2], NOW))
        await self.tried("resend", partial(store.resend_concurrently, SHOP, [1], NOW))
        await self.tried("drop", partial(store.drop_concurrently, SHOP, [2]))
        for service in ("A", "dead-letters:B"):
            await self.tried("clear", partial(store.clear_alert, SHOP, service, (), NOW))
        record = replace(known_order(1), modified_at=at(5).replace(microsecond=0))
        again = batch(new_deliveries("A", "1", "again"), state=STATE, known=[record], now=NOW)
        await self.tried("commit", partial(store.commit, SHOP, again))
        old = at(-(9**9))
        await self.tried("prune", partial(store.prune, SHOP, seen_before=old, finished_before=old))


JUNK: list[Any] = [
    None, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 253_402_300_799_999, 1e300, -1e300, 1.5,
    float("inf"), float("nan"), "", " ", "x", "nan", "1e300", "9" * 30, "-5", "{}", "[]", "null", "{",
    '"text"', "[1, 2",
    '{"a": NaN}', "[" * 3_000, "[" * 60 + "]" * 60, '["1"]', "[1.5]", "[-1]", '{"shop.order.new": "1"}',
    "2026-11-23T09:50:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00", "x" * 5_000, "\x00", "new\nline",
    "\x1f", b"\xff\xfe", b"", b"text", b"\xf0\x28\x8c\x28",
]  # fmt: skip
values = st.one_of(
    st.sampled_from(JUNK),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=40).filter(lambda text: text.isprintable()),
    st.binary(max_size=20),
)


@contextmanager
def loose(path: Path) -> Iterator[sqlite3.Connection]:
    """A file that takes anything anywhere, as an editor or a bad disk may leave it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET sql = replace(replace(replace(sql, 'STRICT, WITHOUT ROWID',"
            " 'WITHOUT ROWID'), ') STRICT', ')'), ' NOT NULL', '') WHERE type = 'table'"
        )
        db.commit()
    with closing(sqlite3.connect(path)) as db:
        yield db
        db.commit()
