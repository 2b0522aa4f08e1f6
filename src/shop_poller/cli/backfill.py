"""`backfill`: imports the orders that were created before the first poll. The daemon may be running.

A later cancellation or refund of them is then decided correctly. It sends one request at a time, pauses after
each for as long as it took, and waits when the shop asks for it. Its position is stored with every page.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import anyio
import typer

from shop_poller.cli.console import store_of
from shop_poller.cli.language import in_language
from shop_poller.config.settings import Settings
from shop_poller.core.cursor import SECOND, CreatedWalk, created_walk
from shop_poller.core.errors import RETRY_AT_ONCE, ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Page, iso
from shop_poller.core.transition import importable
from shop_poller.core.translatable import Text
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.ports import Backfill, OrderState
from shop_poller.runtime.factory import asking, begun, poll_plan
from shop_poller.stores import concurrent_store

PATIENT_KINDS = RETRY_AT_ONCE | {ErrorKind.CIRCUIT_OPEN}
BAR = 1000
PAUSE_S = 60.0
MAX_PAUSES = 30
"""Consecutive pauses: the backfill stops after half an hour without an answer."""


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """The progress of a backfill.

    Attributes:
        share: of the whole period, 0 to 1.
        orders: read in this run.
        imported: recorded, in earlier runs too.
        waiting: why it waits; "" if it does not.
    """

    share: float
    orders: int
    imported: int
    waiting: str = ""


@contextmanager
def progress_bar() -> Iterator[Callable[[BackfillProgress], None]]:
    """Show a progress bar on a terminal, with the orders and their rate; elsewhere show nothing."""
    began, text = time.monotonic(), ""
    bar = typer.progressbar(
        range(BAR),
        label=in_language(Text("backfill")),
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        item_show_func=lambda _: text,
    )
    with bar:

        def show(progress: BackfillProgress) -> None:
            nonlocal text
            rate = progress.orders / max(time.monotonic() - began, 0.001)
            now = Text("{orders:,} orders, {rate:.0f}/s", orders=progress.orders, rate=rate)
            text = in_language(progress.waiting or now)
            bar.update(max(0, round(BAR * progress.share) - bar.pos))
            bar.render_progress()

        yield show


class Backfiller:
    """Imports the old orders of one shop.

    Args:
        settings: as loaded.
        orders: opened for use while the daemon runs.
        fetcher: sends the requests.
        show: reports progress.
    """

    def __init__(
        self,
        settings: Settings,
        orders: OrderState,
        fetcher: Fetcher,
        show: Callable[[BackfillProgress], None],
    ) -> None:
        self._shop = settings.shop
        self._plan = poll_plan(settings)
        self._order_state = orders
        self._fetcher = fetcher
        self._show = show
        self._orders = 0

    async def run(self, since: datetime) -> BackfillProgress:
        """Import the orders that were created from an instant up to the baseline, newest first.

        Raises:
            PermanentError: STORE, this state was never polled with; or the shop cannot be read.
            TemporaryError: the shop did not answer for a long time; run it again to resume.
        """
        top = (await begun(self._order_state, self._shop)).baseline_at
        assert top is not None  # noqa: S101 - `begun` checks it
        if since >= top:
            raise PermanentError(
                ErrorKind.REJECTED,
                Text("watching began at {at}; orders created since then are known already", at=iso(top)),
            )
        position = await self._order_state.backfill(self._shop)
        if position is None or position.created_before <= position.since:  # none yet, or it was finished
            position = Backfill(since, top)
        position = replace(position, since=since)
        walk: CreatedWalk | None = created_walk(since=since - SECOND, before=position.created_before)
        while walk is not None and position.created_before > since:
            began = anyio.current_time()
            walk, page = await self._page(walk, position, top)
            walk = walk.advance(page)
            before = walk.keyset_position.bound if walk else since
            policy = self._plan.policy(top, shop_time=page.shop_time, now=self._order_state.now())
            records = importable(page.orders, policy)
            fresh = await self._order_state.import_concurrently(
                self._shop,
                records,
                replace(position, created_before=before),
                max(
                    page.shop_time, self._order_state.now()
                ),  # kept for a time counted from here, as the state writer does
            )
            position = replace(position, created_before=before, imported=position.imported + fresh)
            self._orders += len(page.items)
            self._show(self._progress(position, top))
            await anyio.sleep(anyio.current_time() - began)
        return self._progress(position, top)

    async def _page(self, walk: CreatedWalk, position: Backfill, top: datetime) -> tuple[CreatedWalk, Page]:
        pauses = 0
        while True:
            try:
                return await self._fetcher.page(walk, float("inf"))
            except TemporaryError as error:
                pauses += 1
                if error.kind not in PATIENT_KINDS or pauses > MAX_PAUSES:
                    raise
                self._show(self._progress(position, top, waiting=error.text))
                await anyio.sleep(max(error.retry_after_s or 0.0, PAUSE_S))

    def _progress(self, position: Backfill, top: datetime, *, waiting: str = "") -> BackfillProgress:
        whole = (top - position.since).total_seconds()
        done = (top - max(position.created_before, position.since)).total_seconds()
        share = min(1.0, done / whole) if whole > 0 else 1.0
        return BackfillProgress(share, self._orders, position.imported, waiting)


async def backfill(
    settings: Settings, since: datetime, show: Callable[[BackfillProgress], None]
) -> BackfillProgress:
    """Import the orders created from an instant on; raises what Backfiller.run raises."""
    async with store_of(settings, concurrent_store) as store, asking(settings) as fetcher:
        return await Backfiller(settings, store, fetcher, show).run(since)
