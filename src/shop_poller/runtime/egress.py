"""Tracks the shops that this process cannot reach although it reaches the state.

Polls detect them. Probes detect when they are reachable again.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import anyio
import structlog

from shop_poller.config.settings import Settings
from shop_poller.core.errors import ShopPollerError, TemporaryError
from shop_poller.core.model import Query
from shop_poller.core.reach import (
    EVERYTHING,
    FAILURES,
    MOST_REPORTED,
    PROBE_AT_MOST_S,
    Polls,
    Probe,
    is_unreachable,
    probe_after_s,
)
from shop_poller.core.schedule import pause_s
from shop_poller.observability.logging import Log
from shop_poller.runtime.factory import make_source

LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class _Record:
    """A shop, or all of them, that could not be reached.

    Attributes:
        times: how often it became unreachable, see reach.probe_after_s.
        since: when it last became unreachable, on the event loop's clock.
        probe_at: when to probe it.
        not_before: the shop itself asked for no request until then.
        lasts: whether it is still unreachable.
    """

    times: int = 0
    since: float = 0.0
    probe_at: float = 0.0
    not_before: float = 0.0
    lasts: bool = False

    def begin(self, now: float) -> None:
        self.times = self.times + 1 if now - self.since < PROBE_AT_MOST_S and self.times else 1
        self.since, self.lasts = now, True
        self.probe_at = now + probe_after_s(self.times)


class Egress:
    """Tracks which shops this process reaches.

    Args:
        shops: all shops, by their ids.
        ask: sends one request to a shop, concurrently with the process that polls it.
    """

    def __init__(self, shops: Mapping[str, Settings], ask: Callable[[Settings], Awaitable[Probe]]) -> None:
        self._shops = shops
        self._ask = ask
        self._records: dict[str, _Record] = {}
        self._reached_at = -math.inf
        self._log: Log = structlog.get_logger()

    @property
    def unreached(self) -> list[str]:
        """Return the ids of the shops that cannot be reached; a bounded number."""
        lasting = [one for one, record in self._records.items() if record.lasts and one != EVERYTHING]
        return sorted(lasting)[:MOST_REPORTED]

    @property
    def is_cut_off(self) -> bool:
        """Return whether no shop can be reached."""
        return EVERYTHING in self._records and self._records[EVERYTHING].lasts

    @property
    def report(self) -> list[str]:
        """Return the report for the other replicas: the ids of shops, or only EVERYTHING."""
        return [EVERYTHING] if self.is_cut_off else self.unreached

    def update(self, polls: Mapping[str, Polls]) -> None:
        """Update the records from the polls of the shops that are ours.

        Args:
            polls: of each shop that is ours and enabled, and that was not released.
        """
        for shop_id, its in polls.items():
            if is_unreachable(its.kind, its.failures):
                self._lost(shop_id, its)
            elif its.has_answered and not its.failures:
                self._found(shop_id)
        records = [self._records.get(shop_id) for shop_id in polls]
        newest = max((one.since for one in records if one is not None), default=-math.inf)
        if all(one is not None and one.lasts for one in records) and self._reached_at < newest:
            self._lost(EVERYTHING, Polls())

    async def probe(self, ours: Callable[[], Collection[str]], others: Callable[[], Collection[str]]) -> None:
        """Probe the unreachable shops forever, one shop at a time.

        Args:
            ours: the shops that are polled here; they need no probe.
            others: the shops that no other replica has reported as unreached.
        """
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            due = self._due(ours(), others())
            if due is None:
                continue
            record, shop_id = due
            found = await self._probe(shop_id)
            if found.is_reached:
                self._found(shop_id)
            else:
                now = anyio.current_time()
                its = self._records[record]
                its.probe_at = now + probe_after_s(its.times)
                self._records.setdefault(shop_id, _Record()).not_before = now + found.pause_s

    async def _probe(self, shop_id: str) -> Probe:
        try:
            return await self._ask(self._shops[shop_id])
        except Exception as bug:  # noqa: BLE001 - must not stop the watch of the shops
            self._log.error(
                "internal error (bug): please report it; retrying", shop=shop_id, error=str(bug), exc_info=bug
            )
            return Probe(is_reached=False)

    def _due(self, ours: Collection[str], others: Collection[str]) -> tuple[str, str] | None:
        """Return the record and the shop to probe now. Prefer a shop that other replicas reach."""
        now = anyio.current_time()
        if self.is_cut_off:
            if now < self._records[EVERYTHING].probe_at:
                return None
            rest = [one for one in self._shops if one not in ours and self._may_ask(one)]
            rest.sort(key=lambda one: (one not in others, self._requested_at(one), one))
            return (EVERYTHING, rest[0]) if rest else None
        for shop_id, record in self._records.items():
            is_ours = shop_id == EVERYTHING or shop_id in ours
            if record.lasts and not is_ours and now >= record.probe_at and self._may_ask(shop_id):
                return shop_id, shop_id
        return None

    def _may_ask(self, shop_id: str) -> bool:
        """Return whether the shop accepts requests now: it asked for no pause, or the pause is over."""
        record = self._records.get(shop_id)
        return record is None or anyio.current_time() >= record.not_before

    def _requested_at(self, shop_id: str) -> float:
        record = self._records.get(shop_id)
        return record.probe_at if record is not None else 0.0

    def _lost(self, shop_id: str, polls: Polls) -> None:
        record = self._records.setdefault(shop_id, _Record())
        record.not_before = max(record.not_before, polls.not_before)
        if record.lasts:
            return
        record.begin(anyio.current_time())
        if shop_id == EVERYTHING:
            if record.times == 1:  # probe at once: perhaps only the shops that were ours are down
                record.probe_at = record.since
            self._log.error("no shop can be reached from here; other replicas that reach them take them over")
            return
        self._log.warning(
            "the shop cannot be reached from here; a replica that reaches it takes it over",
            shop=shop_id,
            error_type=polls.kind,
        )

    def _found(self, shop_id: str) -> None:
        self._reached_at = anyio.current_time()
        for one in (shop_id, EVERYTHING):
            record = self._records.get(one)
            if record is None or not record.lasts:
                continue
            record.lasts = False
            if one == EVERYTHING:
                self._log.info("shops can be reached from here again")
            else:
                self._log.info("the shop can be reached from here again", shop=one)


async def probe(settings: Settings) -> Probe:
    """Request one order from a shop to check whether this process reaches it.

    This runs concurrently with the process that polls the shop. The content of the answer is not used. An
    error that every replica would receive, such as refused keys, counts as an answer.
    """
    source = make_source(settings)
    try:
        await source.fetch(Query(per_page=1, newest_first=True))
    except ShopPollerError as error:
        requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
        return Probe(error.kind not in FAILURES, pause_s(error.kind, requested_s))
    finally:
        await source.aclose()
    return Probe(is_reached=True)
