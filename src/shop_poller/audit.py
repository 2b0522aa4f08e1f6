"""`audit`: order by order, what the shop says, what is known, what was announced and delivered."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import anyio

from shop_poller.core import cursor
from shop_poller.core.audit import FAULTS, UNDELIVERED, Auditor, Entry, Evidence, Sent, Standing
from shop_poller.core.model import Page, iso
from shop_poller.making import asking, begun, poll_plan
from shop_poller.ports import Store
from shop_poller.settings import Settings
from shop_poller.stores import peek_store
from shop_poller.stores.bounds import MAX_SETTLED


@dataclass(slots=True)
class Tally:
    """How all orders stand."""

    standings: dict[int, Standing] = field(default_factory=dict)

    def counts(self) -> Counter[Standing]:
        """How many stand how."""
        return Counter(self.standings.values())

    @property
    def unaccounted(self) -> int:
        """Orders that were missed, or of which something was lost."""
        return sum(self.counts()[standing] for standing in FAULTS)

    @property
    def undelivered(self) -> int:
        """Orders of which a notification is still to be delivered, or was given up."""
        return sum(self.counts()[standing] for standing in UNDELIVERED)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: the last line."""
        return {"orders": len(self.standings), "standings": self.counts(), "verdict": self.verdict()}

    def verdict(self) -> str:
        """All of it in one line."""
        counts, orders = self.counts(), f"{len(self.standings):,} orders"
        notable = [f"{counts[s]:,} {s}" for s in (*FAULTS, *UNDELIVERED, Standing.CHANGING) if counts[s]]
        if self.unaccounted or self.undelivered:
            return f"not everything is accounted for: of {orders} {', '.join(notable)}"
        later = f"; {counts[Standing.CHANGING]:,} changed a moment ago, the next poll will show them"
        return f"everything accounted for: {orders}{later if counts[Standing.CHANGING] else ''}"


async def audit(settings: Settings, since: datetime, tally: Tally) -> AsyncGenerator[Entry]:
    """Judge every order that was modified after an instant, as the shop lists them.

    Args:
        settings: as loaded.
        since: exclusive.
        tally: is filled in.

    Raises:
        PermanentError: STORE, nobody has polled with this state yet; or the shop cannot be read.
        TemporaryError: the shop does not answer.
    """
    store = await peek_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store), asking(settings) as fetcher:
        complete_since = await _complete_since(settings, store)
        walk: cursor.Walk | None = cursor.start(since, overlap=timedelta(0))
        while walk is not None:
            deadline = anyio.current_time() + settings.shop_polling_interval
            walk, page = await fetcher.page(walk, deadline)
            for entry in await _judge(settings, store, page, complete_since):
                tally.standings[entry.order_id] = entry.standing
                yield entry
            walk = cursor.step(replace(walk, pages=0), page, clock_skew=timedelta(0)).walk


async def _judge(settings: Settings, store: Store, page: Page, complete_since: datetime) -> list[Entry]:
    """Judge one page by what the store knows now, which is not older than the page."""
    shop, plan = settings.shop, poll_plan(settings)
    state = await begun(store, shop)
    assert state.baseline_at is not None  # noqa: S101 - begun looked
    assert state.cursor_at is not None  # noqa: S101 - comes with the baseline
    auditor = Auditor(
        shop,
        plan.policy(state.baseline_at, shop_time=page.shop_time, now=store.now()),
        polled_to=state.cursor_at - plan.overlap,
        unwanted=_unwanted(settings),
    )
    ids = [item.id for item in page.items]
    known = await store.known(shop, ids) if ids else {}
    traces = await store.traces(shop, [str(order_id) for order_id in ids]) if ids else []
    sent: dict[str, list[Sent]] = {}
    for trace in traces:
        sent.setdefault(trace.event_id, []).append(Sent(trace.sink, trace.fate, trace.at))
    evidence = Evidence(sent, complete_since)
    return [auditor.judge(item, known.get(item.id), evidence) for item in page.items]


def _unwanted(settings: Settings) -> set[str]:
    """The events that the filters of all sinks leave out."""
    wanted = {
        event
        for event, level in settings.events
        if any(sink.filter.wants(event, level) for sink in settings.sinks)
    }
    return {event for event, _ in settings.events} - wanted


async def _complete_since(settings: Settings, store: Store) -> datetime:
    """Since when every delivery that is over is remembered."""
    await begun(store, settings.shop)
    since = store.now() - timedelta(days=settings.shop_history_days)
    for dead, sink in product((False, True), settings.sinks):
        over = await store.settled(settings.shop, dead=dead, limit=MAX_SETTLED, sink=sink.name)
        if len(over) == MAX_SETTLED:  # older ones were dropped
            since = max(since, over[-1].at)
    return since


def lines(entry: Entry) -> list[str]:
    """One order, for people."""
    known = f"known {entry.known_as}" if entry.known_as else "unknown"
    told = "" if entry.standing is Standing.FINE else f"  {entry.standing.upper()}"
    detail = f": {entry.detail}" if entry.detail else ""
    return [
        f"{entry.order_id:>8}  {entry.shop_says or '?':<12} {known}{told}{detail}",
        *(f"{'':10}{name}  {_sent(several)}" for name, several in entry.announced.items()),
    ]


def as_dict(entry: Entry) -> dict[str, Any]:
    """One order, for programs."""
    return {
        "order": entry.order_id,
        "standing": entry.standing,
        "shop_says": entry.shop_says or None,
        "known_as": entry.known_as or None,
        "announced": _announced(entry.announced),
        "detail": entry.detail,
    }


def _announced(announced: Mapping[str, Iterable[Sent]]) -> dict[str, list[dict[str, str | None]]]:
    return {
        name: [{"sink": sent.sink, "fate": sent.fate, "at": iso(sent.at)} for sent in several]
        for name, several in announced.items()
    }


def _sent(several: Iterable[Sent]) -> str:
    return ", ".join(f"{sent.sink} {sent.fate} {iso(sent.at)}" for sent in several) or "no record any more"
