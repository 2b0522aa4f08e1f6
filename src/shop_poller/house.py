"""The parts that last as long as the process, and those that work while the right to write is ours."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bind_contextvars

from shop_poller.alarm import Alarm
from shop_poller.core.dialects import Dialect
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.redis_address import RedisAddress
from shop_poller.core.retry import RetryPolicy
from shop_poller.core.schedule import first_tick, stale, stale_after
from shop_poller.core.sharing import phase
from shop_poller.dispatcher import DeliveryPlan, Dispatcher
from shop_poller.fetcher import Fetcher
from shop_poller.lease import Lease
from shop_poller.ledger import Ledger
from shop_poller.logs import Edges, Log
from shop_poller.making import make_sinks, make_source, make_voice, poll_plan
from shop_poller.metrics import Book, Metrics, StoreUse
from shop_poller.monitor import Monitor
from shop_poller.pace import Pace, Turns
from shop_poller.poller import Poller
from shop_poller.ports import Outgoing, Sink, Source, Store
from shop_poller.settings import Settings
from shop_poller.sources.auto import Choice
from shop_poller.tenure import Tenure
from shop_poller.web.hooks import Hooks

if TYPE_CHECKING:
    from shop_poller.web.front import Front

LOOK_EVERY_S = 60.0
"""How often the outbox of one of many shops is looked at when nothing seems due."""
OnOutgoing = Callable[[Sequence[Outgoing]], None]


class House:
    """What lasts as long as the process; made by `built`.

    Args:
        settings: as loaded.
        store: opened.
        source: asks the shop.
        sinks: deliver.
        on_outgoing: is shown what was put into the outbox.
        book: where the metrics are kept, with those of other shops.
        turns: that the shop takes with others to be asked.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        source: Source,
        sinks: Sequence[Sink],
        on_outgoing: OnOutgoing | None,
        *,
        book: Book | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._turns = turns
        self._settings = settings
        self._store = store
        self._source = source
        self._sinks = sinks
        self._names = tuple(sink.name for sink in sinks)
        self._wanted = {address.name: address.filter for address in settings.sinks}
        self._on_outgoing = on_outgoing
        self._voice = make_voice(settings)
        self._last_poll_at: datetime | None = None  # an emptied store does not know it any more
        self._gone: set[str] = set()  # sinks that said 410
        self._edges = Edges()
        self._log: Log = structlog.get_logger()
        named = [named.event for named in settings.shop_status_events.values()]
        book = book or Book()
        self._metrics = Metrics(settings.shop, self._names, named, book)
        self._metrics.polling_enabled.set(settings.shop_polling_enabled)
        self._metrics.interval.set(settings.shop_polling_interval)
        self._metrics.started.set(book.started_at.timestamp())
        if settings.shop_dialect != "auto":
            self._metrics.dialect(Dialect(settings.shop_dialect))
        self._alarm = Alarm(
            store, voice=self._voice, sinks=self._wanted, now=store.now, on_outgoing=self._announce
        )
        self.lease = Lease(store, self._metrics)
        self.monitor = Monitor(
            shop=settings.shop,
            polling=settings.shop_polling_enabled,
            sinks=self._names,
            store=store,
            metrics=self._metrics,
            interval_s=settings.shop_polling_interval,
        )

    async def begin(self) -> Tenure:
        """The parts that write, on what the store holds now.

        Raises:
            TemporaryError: STORE.
        """
        settings, store, metrics, now = self._settings, self._store, self._metrics, self._store.now
        ledger = Ledger(
            await store.register(settings.shop, now()),
            store=store,
            voice=self._voice,
            sinks=self._wanted,
            metrics=metrics,
            now=now,
            on_outgoing=self._announce,
        )
        await ledger.load()
        await self._alarm.load()
        self._own_up(ledger)
        plan = DeliveryPlan(
            retry=RetryPolicy(max_age=timedelta(hours=settings.shop_delivery_max_age_hours)),
            senders=settings.shop_senders,
            queue_size=settings.shop_queue_size,
            look_every_s=None if self._turns is None else LOOK_EVERY_S,
        )
        dispatchers = [
            Dispatcher(
                sink,
                plan,
                store=store,
                may_send=self.lease.held,
                alarm=self._alarm,
                metrics=metrics,
                now=now,
                chance=random.random,
                gone=sink.name in self._gone,
            )
            for sink in self._sinks
        ]
        pace = self._pace(ledger)
        poller = Poller(
            poll_plan(settings),
            ledger=ledger,
            fetcher=Fetcher(
                pace.paced(self._source), shop=settings.shop, metrics=metrics, chance=random.random
            ),
            store=store,
            alarm=self._alarm,
            metrics=metrics,
            now=now,
            pace=pace,
        )
        self._edges.changed("state", "")
        self.monitor.tenure = Tenure(poller, ledger, dispatchers)
        return self.monitor.tenure

    def _pace(self, ledger: Ledger) -> Pace:
        """At once, for a shop that is the only one; else at its point of the interval."""
        if self._turns is None:
            return Pace()
        last_at = ledger.state.last_poll_at
        first_in_s = first_tick(
            phase(self._settings.shop),
            interval_s=self._settings.shop_polling_interval,
            now_s=self._store.now().timestamp(),
            last_s=last_at.timestamp() if last_at else None,
        )
        return Pace(self._turns, first_in_s)

    def _own_up(self, ledger: Ledger) -> None:
        """Nobody polled while the store was away for long, and nobody could be told."""
        interval_s = self._settings.shop_polling_interval
        last_poll_at = ledger.state.last_poll_at or self._last_poll_at
        if last_poll_at is None or timedelta(seconds=self.lease.silence_s) < stale_after(interval_s):
            return
        if stale(last_poll_at, self._store.now(), interval_s=interval_s):
            self._alarm.owe(self._settings.shop, cause=ErrorKind.STORE, since=last_poll_at)

    def hooks(self) -> Hooks | None:
        """What takes the shop's webhooks, if they are wanted."""
        secret = self._settings.shop_webhook_secret
        if secret is None:
            return None
        return Hooks(secret.get_secret_value(), hint=self._hint, metrics=self._metrics)

    def front(self) -> "Front":
        """What answers for the status page; imported only now, since most of its life nobody looks."""
        from shop_poller.overview import Overview  # noqa: PLC0415
        from shop_poller.web.front import Front  # noqa: PLC0415
        from shop_poller.web.gate import Gate  # noqa: PLC0415

        settings, token = self._settings, self._settings.shop_admin_token
        overview = Overview(
            shop=settings.shop,
            sinks=self._names,
            titles={named.event: named.title for named in settings.shop_status_events.values()},
            polling=settings.shop_polling_enabled,
            in_redis=isinstance(settings.state, RedisAddress),
            store=self._store,
            monitor=self.monitor,
            on_outgoing=self._announce,
        )
        listen = settings.shop_http_listen
        return Front(
            overview,
            shop=settings.shop,
            locale=settings.shop_locale,
            hosts={*settings.shop_http_hosts, *(listen[:1] if listen else ())},
            gate=Gate(token.get_secret_value(), shop=settings.shop) if token is not None else None,
        )

    def _hint(self) -> None:
        """A follower does nothing: whoever leads finds it at the next tick."""
        if self.monitor.tenure is not None:
            self.monitor.tenure.poller.hint()

    def chose(self, choice: Choice) -> None:
        """The shop is asked in this dialect from now on."""
        refused = {str(dialect): why for dialect, why in choice.refused.items()}
        self._log.info("dialect chosen", dialect=choice.dialect, why=choice.why, refused=refused)
        self._metrics.dialect(choice.dialect)

    def complain(self, error: TemporaryError) -> None:
        """The state cannot be used: said once, until it can."""
        self._metrics.store_error(StoreUse.BEGIN)
        if self._edges.changed("state", error.kind):
            self._log.error("the state cannot be read; trying on", error=str(error))

    def end(self) -> None:
        """The right to write is not ours any more."""
        if self.monitor.tenure is not None:
            pairs = zip(self._names, self.monitor.tenure.dispatchers, strict=True)
            self._gone |= {name for name, dispatcher in pairs if dispatcher.gone}
            self._last_poll_at = self.monitor.tenure.ledger.state.last_poll_at
        self.monitor.tenure = None

    def _announce(self, outgoing: Sequence[Outgoing] = ()) -> None:
        if self.monitor.tenure is not None:
            for dispatcher in self.monitor.tenure.dispatchers:
                dispatcher.wake()
        if self._on_outgoing is not None:
            self._on_outgoing(outgoing)


@asynccontextmanager
async def built(
    settings: Settings,
    store: Store,
    *,
    on_outgoing: OnOutgoing | None = None,
    book: Book | None = None,
    turns: Turns | None = None,
) -> AsyncIterator[House]:
    """Build the parts around a store; all is closed afterwards, the store too."""
    bind_contextvars(shop=settings.shop)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)

        def choose(choice: Choice) -> None:
            house.chose(choice)  # it is there before anything is asked

        source = make_source(settings, on_choice=choose)
        stack.push_async_callback(source.aclose)
        sinks = make_sinks(settings)
        for sink in sinks:
            stack.push_async_callback(sink.aclose)
        house = House(settings, store, source, sinks, on_outgoing, book=book, turns=turns)
        yield house
