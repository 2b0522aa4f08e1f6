"""What this process knows of a shop that it does not watch: from its store, or nothing."""

from collections.abc import Sequence

from shop_poller import __version__
from shop_poller.clock import now
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import Whose
from shop_poller.core.translatable import Text
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.ports import Store
from shop_poller.runtime.factory import make_metrics, sink_timings
from shop_poller.runtime.status import HealthReporter
from shop_poller.runtime.status_page_data import Overview
from shop_poller.web.shop_pages import AbsentShop
from shop_poller.web.snapshot import ActionResult, StatusSnapshot


def followed_overview(settings: Settings, store: Store, metrics_registry: MetricsRegistry) -> Overview:
    """Return the data of a shop that another replica watches. Dead letters can be sent again from here.

    Args:
        settings: of the shop.
        store: opened. Its lease is never taken.
        metrics_registry: is not exported: the replica that watches the shop exports its metrics.
    """
    names = tuple(sink.name for sink in settings.sinks)
    timings = sink_timings(settings, names_shop=True)

    async def mute(sink: str, for_s: float, events: Sequence[str]) -> bool:  # noqa: ARG001 - never from here
        return False

    return Overview(
        shop=settings.shop,
        sinks=names,
        events=frozenset(event for event, _ in settings.events),
        titles={named.event: named.title for named in settings.shop_status_events.values()},
        polling=settings.shop_polling_enabled,
        in_redis=isinstance(settings.state, RedisAddress),
        store=store,
        history=store,
        dead_letters=store,
        health_reporter=HealthReporter(
            shop=settings.shop,
            polling=settings.shop_polling_enabled,
            sinks=names,
            store=store,
            metrics=make_metrics(settings, names, metrics_registry),
            interval_s=settings.shop_polling_interval,
            session=lambda: None,
            clock=ClockWatch(store.now, whose=Whose.OF_REDIS),
            timings=timings,
        ),
        session=lambda: None,
        poll_now=lambda: False,
        mute=mute,
        on_new_deliveries=lambda: None,
        timings=timings,
    )


class UnwatchedShop(AbsentShop):
    """A shop that nobody can show now: this process alone could watch it, and has not begun.

    Args:
        settings: of the shop.
        is_failed: whether an attempt to watch it failed.
    """

    def __init__(self, settings: Settings, *, is_failed: bool) -> None:
        super().__init__(ActionResult.NOT_HERE)
        self._settings = settings
        self.is_failed = is_failed

    def described(self) -> StatusSnapshot:
        """Return the data of the page. Why it failed is in the log only: it may be a bug, with any text."""
        failed = Text("this process cannot watch the shop; its log says why")
        return StatusSnapshot(
            shop=self._settings.shop,
            version=__version__,
            now=now(),
            polling=self._settings.shop_polling_enabled,
            leads=False,
            in_redis=isinstance(self._settings.state, RedisAddress),
            trouble=failed if self.is_failed else Text("this process has not opened it yet"),
        )

    async def snapshot(self) -> StatusSnapshot:
        """Return the data of the page."""
        return self.described()
