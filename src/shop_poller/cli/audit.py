"""`audit`: compares each order in the shop with the known order, its notifications and their deliveries.

The number of orders is checked too, by the shop's own count or by a listing in another order: a walk that
misses orders cannot detect that itself.
"""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import anyio

from shop_poller.cli.audit_report import Tally
from shop_poller.cli.console import store_of
from shop_poller.config.settings import Settings
from shop_poller.core import cursor
from shop_poller.core.audit import Auditor, Count, Entry, Evidence, Sent
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.filters import lasting_facts
from shop_poller.core.model import Order, Page, Query, UnreadableOrder
from shop_poller.core.sweep import AHEAD, MAX_CONFIRMING, made_at
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.ports import DeliveryHistory, OrderState
from shop_poller.runtime.factory import asking, begun, make_message_format, poll_plan
from shop_poller.stores import peek_store
from shop_poller.stores.bounds import MAX_FINISHED

MAX_EXCLUDE = 5000
"""How many orders a query may exclude when it asks what else the shop counts."""
PATIENCE_S = 60.0
"""How long to wait for an answer, with all retries: nothing else waits for the audit."""


async def audit(settings: Settings, since: datetime, tally: Tally) -> AsyncGenerator[Entry]:
    """Judge every order that was modified after an instant, in the order in which the shop lists them.

    Args:
        settings: as loaded.
        since: the instant, exclusive.
        tally: is filled in.

    Raises:
        PermanentError: STORE, this state was never polled with; or the shop cannot be read.
        TemporaryError: the shop does not answer.
    """
    async with store_of(settings, peek_store) as store, asking(settings) as fetcher:
        await begun(store, settings.shop)
        complete_since: datetime | None = None
        before = await _count(fetcher, since)
        walk: cursor.ModifiedWalk | None = cursor.start(since, overlap=timedelta(0))
        while walk is not None:
            walk, page = await fetcher.page(walk, _deadline())
            if complete_since is None:
                now = max(store.now(), page.shop_time)
                complete_since = await _complete_since(settings, store, now)
            page = await _confirmed(settings, store, fetcher, page)
            for entry in await _audit_page(settings, store, store, page, complete_since):
                tally.standings[entry.order_id] = entry.standing
                yield entry
            walk = cursor.step(replace(walk, pages=0), page, clock_skew=timedelta(0)).walk
        tally.count = await _counted(fetcher, since, tally.standings.keys(), before, page.shop_time)


def _deadline() -> float:
    return anyio.current_time() + PATIENCE_S


async def _counted(
    fetcher: Fetcher, since: datetime, read: Collection[int], before: int | None, walked_at: datetime
) -> Count:
    """Return the number of orders, by a count that does not depend on the walk.

    Args:
        fetcher: asks the shop.
        since: modified after this instant.
        read: the orders that the walk returned.
        before: the shop's own count before the walk; None if there is none.
        walked_at: the shop's clock at the end of the walk.
    """
    after = await _count(fetcher, since)
    # A count below what was read is not valid: some plugins turn counting off.
    unread: int | None = None
    if before is not None and after is not None and max(before, after) >= len(read):
        if min(before, after) <= len(read) or len(read) > MAX_EXCLUDE:
            return Count(min(before, after), max(before, after), len(read))
        # A join makes several rows of one order, and the shop counts rows. Count without the read orders.
        with suppress(ShopPollerError):  # such a long query may be refused, or answered without a count
            unread = await _count(fetcher, since, besides=read)
    if unread is None:
        unread = len(await _listed_otherwise(fetcher, since, read, walked_at))
    return Count(len(read) + unread, len(read) + unread, len(read))


async def _count(fetcher: Fetcher, since: datetime, besides: Collection[int] = ()) -> int | None:
    """Return how many orders were modified after an instant, by the shop's count; None if it sends none."""
    query = Query(per_page=1, modified_after=since, exclude=frozenset(besides))
    page = await fetcher.fetch(query, _deadline())
    # With one order per page, there are as many pages as orders.
    return page.total if page.total is not None else page.total_pages


async def _listed_otherwise(
    fetcher: Fetcher, since: datetime, read: Collection[int], before: datetime
) -> set[int]:
    """Return the orders that a walk by creation returns, but the walk by modification did not.

    Args:
        fetcher: asks the shop.
        since: modified after this instant.
        read: the orders of the first walk.
        before: the shop's clock at the end of the first walk, which does not contain later changes.
    """
    unread: set[int] = set()
    walk: cursor.CreatedWalk | None = cursor.created_walk(
        since=None, before=before + AHEAD, modified_after=since
    )
    while walk is not None:
        walk, page = await fetcher.page(walk, _deadline())
        unread |= {
            item.id
            for item in page.items
            if item.id not in read and item.modified_at is not None and item.modified_at < before
        }
        walk = walk.advance(page)
    return unread


async def _confirmed(settings: Settings, orders: OrderState, fetcher: Fetcher, page: Page) -> Page:
    """Return the page. Replace each order that contradicts the known order by the answer to another query."""
    auditor = await _auditor(settings, orders, page)
    ids = [item.id for item in page.items]
    known = await orders.known(settings.shop, ids) if ids else {}
    items = list(page.items)
    for place, item in enumerate(items):
        if isinstance(item, Order) and auditor.contradicts(item, known.get(item.id)):
            items[place] = await _listed_by_creation(fetcher, item) or item
    return replace(page, items=tuple(items))


async def _listed_by_creation(fetcher: Fetcher, order: Order) -> Order | UnreadableOrder | None:
    """Return the order from a listing by creation; None if it is not in the listing."""
    walk = made_at(order.created_at)
    for _ in range(MAX_CONFIRMING):
        walk, page = await fetcher.page(walk, _deadline())
        found = next((item for item in page.items if item.id == order.id), None)
        following = None if found is not None else walk.advance(page)
        if following is None:
            return found
        walk = following
    return None


async def _audit_page(
    settings: Settings, orders: OrderState, history: DeliveryHistory, page: Page, complete_since: datetime
) -> list[Entry]:
    """Judge one page by the stored data, which is not older than the page."""
    auditor = await _auditor(settings, orders, page)
    shop = settings.shop
    ids = [item.id for item in page.items]
    known = await orders.known(shop, ids) if ids else {}
    delivery_records = (
        await history.delivery_records(shop, [str(order_id) for order_id in ids]) if ids else []
    )
    sent: dict[str, list[Sent]] = {}
    for delivery_record in delivery_records:
        sent.setdefault(delivery_record.event_id, []).append(
            Sent(delivery_record.sink, delivery_record.status, delivery_record.at)
        )
    evidence = Evidence(sent, complete_since)
    return [auditor.entry_of(item, known.get(item.id), evidence) for item in page.items]


async def _auditor(settings: Settings, orders: OrderState, page: Page) -> Auditor:
    plan = poll_plan(settings)
    state = await begun(orders, settings.shop)
    assert state.baseline_at is not None  # noqa: S101 - `begun` checks it
    assert state.cursor_at is not None  # noqa: S101 - set together with the baseline
    return Auditor(
        settings.shop,
        plan.policy(state.baseline_at, shop_time=page.shop_time, now=orders.now()),
        polled_to=state.cursor_at - plan.overlap,
        is_wanted=_wanted(settings),
        only_for_people=all(sink.is_for_people for sink in settings.sinks),
    )


def _wanted(settings: Settings) -> Callable[[str, Order | UnreadableOrder], bool]:
    """Return a function that shows whether a sink's filter surely accepts an event of an order.

    What may have been another fact then, such as the status, decides nothing.
    """
    filters = [sink.filter for sink in settings.sinks]
    levels, shop = dict(settings.events), (settings.shop, make_message_format(settings).shop_info.name)

    def is_wanted(name: str, item: Order | UnreadableOrder) -> bool:
        level = levels.get(name)
        if level is None:  # an event of the owner's that is no longer in the settings
            return True
        order = item if isinstance(item, Order) else None
        known = lasting_facts(order, event_type=name, level=level, shop=shop)
        return any(
            one.wants(name, level) and (one.where is None or one.where.matches(known) is True)
            for one in filters
        )

    return is_wanted


async def _complete_since(settings: Settings, history: DeliveryHistory, now: datetime) -> datetime:
    """Return since when the records of finished deliveries are complete.

    Args:
        settings: as loaded.
        history: contains the deliveries.
        now: the later of our clock and the shop's: ours may be behind.
    """
    since = now - timedelta(days=settings.shop_history_days)
    for dead, sink in product((False, True), settings.sinks):
        over = await history.finished(settings.shop, dead=dead, limit=MAX_FINISHED, sink=sink.name)
        if len(over) == MAX_FINISHED:  # older ones were deleted
            since = max(since, over[-1].at)
    return since
