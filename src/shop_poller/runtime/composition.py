"""Builds the parts of the daemon. Only this module distinguishes one shop from several."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Store
from shop_poller.runtime.fleet import AllShops, Assignment, Fleet, FleetPolicy
from shop_poller.runtime.leader_session import Grace
from shop_poller.stores import StorePool
from shop_poller.web.routes import make_app

if TYPE_CHECKING:
    from shop_poller.runtime.fleet_overview import FleetOverview
    from shop_poller.runtime.shop_runtime import ShopRuntime
    from shop_poller.web.admin_auth import AdminAuth
    from shop_poller.web.fleet_page import FleetPage
    from shop_poller.web.shop_pages import ShopPages
    from shop_poller.web.status_page import StatusPage

HANDOVER_GRACE = Grace(tick_s=5.0, sender_s=5.0)
"""For a handover to another replica: short, because no replica watches the shop meanwhile."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """The parts of one process.

    Attributes:
        fleet: watches the shops.
        assignment: decides which shops this process watches.
        http_app: the application that the listener serves.
        start_log_fields: log fields about the shops at the start.
        background: tasks that run as long as the fleet.
    """

    fleet: Fleet
    assignment: Assignment
    http_app: Starlette
    start_log_fields: Mapping[str, object]
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()


@asynccontextmanager
async def open_daemon(shops_config: ShopsConfig) -> AsyncIterator[Daemon]:
    """Build the daemon for these shops. Close everything at the end of the context.

    Raises:
        SettingsError: a template cannot be used. With one shop also: a sink cannot be used.
        PermanentError: STORE, there is one shop and its state cannot be used.
    """
    shops = shops_config.shops
    if any(shop.shop_templates is not None for shop in shops):
        from shop_poller.runtime.message_templates import check_templates  # noqa: PLC0415 - few shops need it

        check_templates(shops)
    store_pool = StorePool(shops[0].state, is_shared=len(shops) > 1)
    try:
        compose = _one_shop if len(shops) == 1 else _several_shops
        async with compose(shops_config, store_pool) as daemon:
            yield daemon
    finally:
        await store_pool.aclose()


@asynccontextmanager
async def _one_shop(shops_config: ShopsConfig, store_pool: StorePool) -> AsyncIterator[Daemon]:
    """Build the daemon for one shop. It requires the shop, shares nothing and serves the status page."""
    (settings,) = shops_config.shops
    fleet = Fleet(
        [settings],
        _store_opener(store_pool),
        metrics_registry=MetricsRegistry(),
        policy=FleetPolicy(ends_on_failure=True),
    )
    async with fleet.opened() as (shop_runtime,):
        yield Daemon(
            fleet,
            AllShops(fleet.shops),
            make_app(
                shop_runtime.health_reporter,
                shop_runtime.hooks(),
                lambda: _status_page(shop_runtime, shops_config),
                signs_in=_has_tokens(shops_config),
                actions_enabled=settings.shop_admin_token is not None,
                hosts=_http_hosts(settings),
                shop_hooks=shop_runtime.shop_hooks(),
            ),
            start_log_fields={
                "interval_s": settings.shop_polling_interval,
                "polling": settings.shop_polling_enabled,
                "sinks": [sink.name for sink in settings.sinks],
                "state": settings.state_place,
            },
        )


@asynccontextmanager
async def _several_shops(shops_config: ShopsConfig, store_pool: StorePool) -> AsyncIterator[Daemon]:
    """Build the daemon for several shops. They fail independently; the listener serves the fleet's status."""
    from shop_poller.runtime.balancer import Balancer  # noqa: PLC0415 - a single shop does not need it
    from shop_poller.runtime.fleet_hooks import FleetHooks  # noqa: PLC0415 - as above
    from shop_poller.runtime.fleet_overview import FleetOverview  # noqa: PLC0415 - as above
    from shop_poller.runtime.fleet_status import FleetStatus, lateness  # noqa: PLC0415 - as above

    shops, first = shops_config.shops, shops_config.shops[0]
    name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    membership = store_pool.membership(first.state, prefix=shops_config.prefix, name=name)
    metrics_registry = MetricsRegistry(is_crowded=len(shops) > first.shop_labelled_shops)
    limiter = PollLimiter(first.shop_concurrent_polls, lateness(metrics_registry))
    fleet = Fleet(
        shops,
        _store_opener(store_pool),
        metrics_registry=metrics_registry,
        policy=FleetPolicy(limiter=limiter, grace=Grace() if membership is None else HANDOVER_GRACE),
    )
    balancer = Balancer(fleet, membership=membership, name=name)
    fleet_status = FleetStatus(
        fleet, balancer, metrics_registry, limiter, names_shops=not shops_config.tenants
    )
    overview = FleetOverview(
        fleet,
        open_store=None if membership is None else _store_opener(store_pool),
        name=name,
        tags={shop.shop: shop.tags for shop in shops_config.shops if shop.tags},
    )
    pages = _LazyPages(overview, shops_config)
    async with fleet.opened(), overview.opened():
        yield Daemon(
            fleet,
            balancer,
            make_app(
                fleet_status,
                hosts=_http_hosts(first),
                shop_hooks=FleetHooks(fleet, metrics_registry).receiver(),
                signs_in=_has_tokens(shops_config),
                actions_enabled=first.shop_admin_token is not None,
                fleet_pages=pages,
            ),
            start_log_fields={"shops": len(shops), "state": first.state_place},
            background=(fleet_status.survey, overview.refresh),
        )


class _LazyPages:
    """Makes the pages of several shops when they are first requested, since their code is large."""

    def __init__(self, overview: "FleetOverview", shops_config: ShopsConfig) -> None:
        self._overview = overview
        self._shops_config = shops_config

    @property
    def has_tenants(self) -> bool:
        return bool(self._shops_config.tenants)

    @cached_property
    def admin_auth(self) -> "AdminAuth | None":
        return make_admin_auth(self._shops_config)

    @cached_property
    def fleet_page(self) -> "FleetPage":
        from shop_poller.web.fleet_page import FleetPage  # noqa: PLC0415 - rarely used

        locale = self._shops_config.shops[0].shop_locale
        return FleetPage(self._overview, locale=locale, admin_auth=self.admin_auth)

    @cached_property
    def shop_pages(self) -> "ShopPages":
        from shop_poller.web.shop_pages import ShopPages  # noqa: PLC0415 - rarely used

        return ShopPages(self._overview, admin_auth=self.admin_auth)


def _status_page(shop_runtime: "ShopRuntime", shops_config: ShopsConfig) -> "StatusPage":
    from shop_poller.web.status_page import StatusPage  # noqa: PLC0415 - rarely used

    (settings,) = shops_config.shops
    return StatusPage(
        shop_runtime.overview(),
        shop=settings.shop,
        locale=settings.shop_locale,
        admin_auth=make_admin_auth(shops_config),
    )


def _has_tokens(shops_config: ShopsConfig) -> bool:
    return any(shop.shop_admin_token or shop.shop_read_token for shop in shops_config.shops)


def make_admin_auth(shops_config: ShopsConfig) -> "AdminAuth | None":
    """Return what decides who may read and act; None if everybody may read, and nobody may act."""
    from shop_poller.web.admin_auth import READS_ALL, AdminAuth, Grant  # noqa: PLC0415 - rarely used

    if not _has_tokens(shops_config):
        return None
    first = shops_config.shops[0]
    token = first.shop_admin_token.get_secret_value() if first.shop_admin_token is not None else None
    readers = {tenant: Grant(shops=shops) for tenant, shops in shops_config.tenants.items()}
    if shops_config.read_token is not None:
        readers[shops_config.read_token] = READS_ALL
    return AdminAuth(token, shop=first.shop, readers=readers)


def _store_opener(store_pool: StorePool) -> Callable[[Settings], Awaitable[Store]]:
    return lambda settings: store_pool.open(
        settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix
    )


def _http_hosts(settings: Settings) -> set[str]:
    """Return the host names that requests to the listener may use."""
    return {*settings.shop_http_hosts, *(settings.shop_http_listen or ())[:1]}
