"""Makes parts from the settings."""

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING

from pydantic import SecretStr

from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.sinks import SinkConfig
from shop_poller.config.statuses import bare
from shop_poller.core.errors import ErrorKind, PermanentError, text_of
from shop_poller.core.masking import Masker
from shop_poller.core.meaning import StatusMeanings
from shop_poller.core.messages import MessageFormat, Renderer, ShopInfo
from shop_poller.core.model import BuyerField, Notification
from shop_poller.core.showing import before_colon, shown_place
from shop_poller.core.signature import signing_keys
from shop_poller.core.translatable import Text
from shop_poller.delivery.gathering import Compose, SinkTiming
from shop_poller.observability.metrics import Metrics, MetricsRegistry
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.polling.plan import PollPlan
from shop_poller.ports import OrderState, RefundList, ShopState, Sink, Source
from shop_poller.sources.woocommerce import open_refunds, open_source
from shop_poller.sources.woocommerce.auto import Auto, ChosenDialect
from shop_poller.sources.woocommerce.dialects import NEEDS, Dialect, KnownKeys, candidates, site_address
from shop_poller.sources.woocommerce.fields import OrderFields
from shop_poller.sources.woocommerce.statuses import OWN, meanings

if TYPE_CHECKING:
    from shop_poller.core.grouping import GroupFormat


def shop_credentials(settings: Settings) -> KnownKeys:
    """Return the credentials for the shop."""

    def text(secret: SecretStr | None) -> str:
        return secret.get_secret_value() if secret is not None else ""

    return KnownKeys(
        consumer_key=text(settings.woocommerce_consumer_key),
        consumer_secret=text(settings.woocommerce_consumer_secret),
        username=settings.wordpress_username or "",
        password=text(settings.wordpress_application_password),
        other_secrets=(text(settings.shop_webhook_secret),)
        if settings.shop_webhook_secret is not None
        else (),
    )


def order_fields(settings: Settings) -> OrderFields:
    """Return what to request of an order."""
    return OrderFields(frozenset(map(BuyerField, settings.shop_buyer_fields)))


def make_source(settings: Settings, *, on_choice: Callable[[ChosenDialect], None] = lambda _: None) -> Source:
    """Return the source for the shop's dialect. With "auto", the source detects the dialect."""
    url, credentials = settings.woocommerce_mcp_url, shop_credentials(settings)
    fields = order_fields(settings)
    if settings.shop_dialect != "auto":
        return open_source(Dialect(settings.shop_dialect), url, credentials, fields)
    missing = {
        dialect: Text("needs {keys}", keys=NEEDS[dialect])
        for dialect in Dialect
        if not credentials.fit(dialect)
    }
    if not settings.shop_sweep_interval:  # only the sweep checks whether an order can be read again
        missing.setdefault(Dialect.ABILITIES, Text("needs the sweep: SHOP_SWEEP_INTERVAL"))
    openers = {
        d: partial(open_source, d, url, credentials, fields) for d in candidates(url) if d not in missing
    }
    return Auto(openers, missing=missing, on_choice=on_choice)


def make_refunds(settings: Settings) -> RefundList | None:
    """Return the shop's list of refunds; None if no sweep reads it, or the dialect or keys do not support it.

    The list belongs to the REST API, whatever the shop's dialect is: a consumer key is valid for both. The
    dialect `abilities` sees no refunds, so there would be no refunded order to read again.
    """
    is_blind = settings.shop_dialect == "abilities"
    if is_blind or not settings.shop_sweep_interval or not settings.has_consumer_key:
        return None
    return open_refunds(settings.woocommerce_mcp_url, shop_credentials(settings))


def make_sinks(settings: Settings) -> list[Sink]:
    """Return the sinks, in the order of the settings.

    Raises:
        SettingsError: a sink cannot use its address, or needs a library that is not installed.
    """
    secret = settings.shop_notify_secret
    keys = signing_keys(secret.get_secret_value()) if secret is not None else ()
    sinks: list[Sink] = []
    problems: list[str] = []
    for config in settings.sinks:
        try:
            sinks.append(config.open(signing_keys=keys, connections=settings.shop_senders))
        except ValueError as error:
            problems.append(sink_problem(config.name, error))
    if problems:
        raise SettingsError(problems)
    return sinks


def sink_problem(name: str, error: ValueError) -> str:
    """Return the line of a problem that a sink has with its address."""
    return Text(
        "SHOP_NOTIFY_URLS: {name}: {problem}", name=before_colon(shown_place(name)), problem=text_of(error)
    )


def make_metrics(
    settings: Settings, sinks: Iterable[str] = (), metrics_registry: MetricsRegistry | None = None
) -> Metrics:
    """Return the metrics of a shop.

    Args:
        settings: as loaded.
        sinks: the names of the sinks.
        metrics_registry: registers the metrics, with those of other shops.
    """
    events = [named.event for named in settings.shop_status_events.values()]
    return Metrics(settings.shop, sinks, events, metrics_registry, statuses=OWN, dialects=Dialect)


def make_mask(settings: Settings) -> Callable[[str], str]:
    """Return a function that removes the shop's secrets from a text."""

    @cache
    def masker() -> Masker:  # made when a delivery fails for the first time, because it takes a while
        return Masker(settings.secrets)

    return lambda text: masker().mask(text)


def make_message_format(settings: Settings, *, names_shop: bool = False) -> MessageFormat:
    """Return the format of the shop's notifications.

    Args:
        settings: as loaded.
        names_shop: whether messages for people say which shop it is, because there are several.

    Raises:
        SettingsError: a template cannot be used.
    """
    return MessageFormat(
        settings.shop,
        locale=settings.shop_locale,
        levels=settings.shop_level_map,
        brand_id=settings.shop_brand_id,
        target_roles=settings.shop_target_roles,
        target_users=settings.shop_target_users,
        shop=ShopInfo(settings.display_name, site_address(settings.woocommerce_mcp_url)),
        renderers=_renderers(settings, names_shop=names_shop),
    )


def _renderers(settings: Settings, *, names_shop: bool) -> dict[str, Renderer]:
    """Return what writes the bodies of each sink, by the sink's name.

    Raises:
        SettingsError: a template cannot be used.
    """
    if any(sink.is_for_people for sink in settings.sinks):
        from shop_poller.runtime.message_templates import make_renderers  # noqa: PLC0415 - not all sinks need it

        return make_renderers(settings, names_shop=names_shop)
    return {sink.name: partial(sink.render, write_rich=Notification.body) for sink in settings.sinks}


def sink_timings(settings: Settings, *, names_shop: bool = False) -> dict[str, SinkTiming]:
    """Return when each sink receives deliveries, by name; without those that receive all at once.

    Args:
        settings: as loaded.
        names_shop: whether messages for people say which shop it is, because there are several.
    """
    critical = settings.shop_level_map.get("critical", "critical")
    return {
        sink.name: SinkTiming(
            quiet=sink.options.quiet,
            zone=settings.time_zone,
            urgent=frozenset(sink.options.urgent or (critical,)),
            group_s=sink.options.group_s,
            compose=_composer(settings, sink, names_shop=names_shop) if sink.is_for_people else None,
        )
        for sink in settings.sinks
        if sink.options.quiet is not None or sink.options.group_s
    }


def _composer(settings: Settings, sink: SinkConfig, *, names_shop: bool) -> Compose:
    """Return what writes one message for several deliveries. It loads its texts when it is first used."""

    @cache
    def group_format() -> "GroupFormat":
        from shop_poller.core.grouping import GroupFormat  # noqa: PLC0415 - babel takes 10 MB
        from shop_poller.locales import texts  # noqa: PLC0415 - as above

        locale = sink.options.locale or settings.shop_locale
        shop = settings.display_name if names_shop else ""
        return GroupFormat(locale, texts(locale), shop, settings.shop_level_map)

    return lambda rows: group_format().compose(rows)


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[Fetcher]:
    """Open a fetcher for a command that requests orders while the daemon may run. Close it afterwards."""
    source = make_source(settings)
    try:
        yield Fetcher(source, shop=settings.shop, metrics=make_metrics(settings), random=random.random)
    finally:
        await source.aclose()


def status_meanings(settings: Settings) -> StatusMeanings:
    """Return the meanings of the shop's statuses."""
    return meanings(unpaid=map(bare, settings.shop_unpaid_statuses))


def poll_plan(settings: Settings) -> PollPlan:
    """Return how to poll the shop, according to the settings."""
    return PollPlan(
        shop=settings.shop,
        meanings=status_meanings(settings),
        interval_s=settings.shop_polling_interval,
        lookback=timedelta(seconds=settings.shop_initial_lookback),
        overlap=timedelta(seconds=settings.shop_cursor_overlap),
        clock_skew=timedelta(seconds=settings.shop_clock_skew),
        sweep_every=timedelta(seconds=settings.shop_sweep_interval),
        sweep_window=timedelta(hours=settings.shop_sweep_window),
        retention=timedelta(days=settings.shop_state_retention_days),
        history=timedelta(days=settings.shop_history_days),
        cancelled_unpaid=settings.shop_cancelled_unpaid,
        status_events=settings.shop_status_events,
        waiting_payments=frozenset(settings.shop_waiting_payments),
        overdue_after=timedelta(hours=settings.shop_pending_payment_threshold),
        silence_after=timedelta(hours=settings.shop_silence_alert_hours),
    )


async def begun(orders: OrderState, shop: str) -> ShopState:
    """Return the state of a shop that has been polled, for commands that need one.

    Raises:
        PermanentError: STORE, the shop was never polled with this state.
    """
    state = await orders.load(shop)
    if state is None or state.baseline_at is None:
        raise PermanentError(
            ErrorKind.STORE, Text("nothing was polled with this state yet; start `shop-poller run` first")
        )
    return state
