"""Several shops as their overview sees them, made up: for its tests, its benchmark, and the pictures."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from zoneinfo import ZoneInfo

from starlette.applications import Starlette

from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import Locale
from shop_poller.ports import Alert, PollFailure, ShopState, SinkStats
from shop_poller.web.admin_auth import AdminAuth, Grant
from shop_poller.web.fleet_page import FleetPage
from shop_poller.web.fleet_snapshot import FleetRow
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving
from shop_poller.web.shop_pages import ShopPages
from shop_poller.web.snapshot import SinkSnapshot, StatusSnapshot
from support.scene import HOSTS, NO_HEALTH, TOKEN, TROUBLED, WELL, Stage, ago

READ_TOKEN = "a-token-that-only-reads"
OF_TEA, OF_TWO = "the-token-of-the-tea-shop", "the-token-of-honey-and-milk"
TENANTS = {OF_TEA: frozenset({"tea"}), OF_TWO: frozenset({"honey", "milk"})}
NAMES = {
    "honey": "Мёд и пчёлы",
    "tea": "Tea & Co",
    "milk": "Milk",
    "bread": "Bread",
    "cheese": "Käse",
    "wine": "Wine",
    "salt": "Salt",
}
TAGS = {"honey": ("ru",), "tea": ("eu", "wholesale"), "milk": ("ru",), "cheese": ("eu",)}
ZONES = {
    "honey": ZoneInfo("Europe/Moscow"),
    "tea": ZoneInfo("Europe/London"),
    "milk": ZoneInfo("Asia/Almaty"),
}


def _well(shop: str) -> StatusSnapshot:
    return replace(
        WELL, shop=shop, recent_events=(), state=ShopState(ago(days=9), last_poll_at=ago(seconds=18))
    )


SCENE: Mapping[str, StatusSnapshot | None] = {
    "honey": _well("honey"),
    "tea": replace(TROUBLED, shop="tea"),
    "milk": replace(
        _well("milk"),
        unhealthy_reason="Polling not running",
        is_circuit_open=True,
        failure=PollFailure(ErrorKind.TIMEOUT, "no answer within 30 s", ago(minutes=27)),
        state=ShopState(ago(days=9), last_poll_at=ago(minutes=27)),
    ),
    "bread": replace(_well("bread"), leads=False, leader="host-b/17"),
    "cheese": replace(
        _well("cheese"),
        sinks=[SinkSnapshot("crm", SinkStats(dead=3), in_flight=0, breaker=BreakerState.CLOSED)],
    ),
    "wine": replace(_well("wine"), polling=False, next_in_s=None),
    "salt": None,
}
"""One shop of each kind."""


def row(shop: str, snapshot: StatusSnapshot | None) -> FleetRow:
    """The row of a shop of the scene."""
    replica = "" if snapshot is None else snapshot.leader or "host-a/4711"
    return FleetRow(
        shop,
        NAMES.get(shop, shop),
        TAGS.get(shop, ()),
        ZONES.get(shop, ZoneInfo("UTC")),
        snapshot,
        replica,
        orders=None if snapshot is None else 12,
        delivered=None if snapshot is None else 31,
    )


def many(count: int) -> list[FleetRow]:
    """So many shops; one in twenty is in trouble."""
    sinks = [
        SinkSnapshot(
            "crm", SinkStats(waiting=14, oldest_at=ago(minutes=25)), in_flight=0, breaker=BreakerState.CLOSED
        )
    ]
    rows = []
    for number in range(count):
        shop = f"shop-{number:04}"
        snapshot = _well(shop)
        if number % 20 == 0:
            snapshot = replace(
                snapshot, sinks=sinks, alerts=[Alert("telegram", ErrorKind.CONNECTION, ago(minutes=25))]
            )
        elif number % 2:
            snapshot = replace(snapshot, leads=False, leader="host-b/1742")
        rows.append(
            FleetRow(
                shop,
                f"{shop}.example",
                ("eu" if number % 3 else "wholesale",),
                ZoneInfo("Europe/Moscow"),
                snapshot,
                snapshot.leader or "host-a/4711",
                orders=number % 300,
                delivered=number % 600,
            )
        )
    return rows


@dataclass
class FleetStage:
    """Answers for a daemon with several shops.

    Attributes:
        all_rows: the rows; the same object until a test replaces it.
        stages: what each shop answers.
        elsewhere: the shops of other replicas.
    """

    all_rows: Sequence[FleetRow] = field(default_factory=lambda: [row(*one) for one in SCENE.items()])
    elsewhere: frozenset[str] = frozenset({"bread"})
    looks: int = 0

    @cached_property
    def stages(self) -> dict[str, Stage]:
        return {one.shop: Stage(one.snapshot or replace(WELL, shop=one.shop)) for one in self.all_rows}

    @property
    def shops(self) -> set[str]:
        return {one.shop for one in self.all_rows}

    async def rows(self) -> Sequence[FleetRow]:
        self.looks += 1
        return self.all_rows

    async def backend(self, shop: str) -> Stage:
        return self.stages[shop]

    def is_here(self, shop: str) -> bool:
        return shop not in self.elsewhere

    def sinks(self, shop: str) -> list[str]:
        return [sink.name for sink in self.stages[shop].status.sinks]

    def locale(self, shop: str) -> Locale:
        assert isinstance(shop, str)
        return "en"


class MadePages:
    """The pages of several shops: web.routes.FleetPages."""

    def __init__(self, stage: FleetStage, admin_auth: AdminAuth | None, *, has_tenants: bool) -> None:
        self.has_tenants = has_tenants
        self.fleet_page = FleetPage(stage, locale="en", admin_auth=admin_auth)
        self.shop_pages = ShopPages(stage, admin_auth=admin_auth)


def app_of(
    stage: FleetStage,
    *,
    token: str | None = TOKEN,
    read_token: str | None = None,
    tenants: Mapping[str, frozenset[str]] = {},
) -> Starlette:
    """The application of such a daemon."""
    readers = {tenant: Grant(shops=shops) for tenant, shops in tenants.items()}
    readers |= {read_token: Grant()} if read_token is not None else {}
    admin_auth = AdminAuth(token, shop="honey", readers=readers) if token or readers else None
    return make_app(
        NO_HEALTH,
        signs_in=admin_auth is not None,
        actions_enabled=token is not None,
        hosts=HOSTS,
        fleet_pages=MadePages(stage, admin_auth, has_tenants=bool(tenants)),
    )


@asynccontextmanager
async def fleet_staged(stage: FleetStage, *, token: str | None = TOKEN) -> AsyncIterator[str]:
    """Serve the pages over HTTP.

    Yields:
        Their address.
    """
    async with serving(app_of(stage, token=token), listen("127.0.0.1", 0)) as address:
        yield address
