"""A daemon as the status page sees it, made up: for the tests of the page, and for the README's pictures."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.ports import Alert, FinishedDelivery, ShopState, SinkStats
from shop_poller.web.admin_auth import AdminAuth
from shop_poller.web.routes import HealthSource, make_app
from shop_poller.web.server import listen, serving
from shop_poller.web.snapshot import ActionResult, RecentEvent, SinkSnapshot, StatusSnapshot
from shop_poller.web.status_page import StatusPage

SHOP = "shop.example"
TOKEN = "a-token-that-nobody-guesses"
NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)
NO_HEALTH = cast("HealthSource", None)  # nobody asks for them here
DELIVERED = (4, 2, 1, 0, 0, 1, 3, 7, 12, 15, 18, 14, 16, 21, 19, 17, 22, 25, 20, 14, 11, 9, 8, 6)


def ago(**how_long: float) -> datetime:
    return NOW - timedelta(**how_long)


def finished(
    seq: int, sink: str, key: str, event: str, *, at: datetime, reason: str = ""
) -> FinishedDelivery:
    return FinishedDelivery(seq, sink, key, f"{key}/{event}", event, 3 if reason else 0, at, reason)


def _events() -> list[RecentEvent]:
    told = [
        ("shop.order.new", "1042", 40.0),
        ("shop.order.new", "1041", 190.0),
        ("shop.order.partially_refunded", "1037", 840.0),
        ("shop.order.cancelled", "1039", 1500.0),
        ("shop.order.failed", "1040", 2900.0),
    ]
    return [
        RecentEvent(
            event,
            key,
            [
                finished(n, sink, key, event, at=ago(seconds=age + n))
                for n, sink in enumerate(("crm", "telegram"))
            ],
        )
        for event, key, age in told
    ]


WELL = StatusSnapshot(
    shop=SHOP,
    version="1.0.0",
    now=NOW,
    polling=True,
    leads=True,
    next_in_s=42,
    state=ShopState(ago(days=90), ago(days=90), ago(seconds=20), last_poll_at=ago(seconds=18)),
    known=12_480,
    sinks=[
        SinkSnapshot("crm", SinkStats(), in_flight=0, breaker=BreakerState.CLOSED),
        SinkSnapshot("telegram", SinkStats(), in_flight=0, breaker=BreakerState.CLOSED),
    ],
    recent_events=_events(),
    delivered=DELIVERED,
    dead_lettered=(0,) * 24,
)
"""All is well."""

DEAD_LETTERS = [
    finished(57, "crm", "1038", "shop.order.new", at=ago(minutes=42), reason="422: unknown brand"),
    finished(41, "crm", "1031", "shop.order.refunded", at=ago(hours=3), reason="400: field total is missing"),
]
TROUBLED = replace(
    WELL,
    set_aside=1,
    alerts=[Alert("telegram", ErrorKind.CONNECTION, ago(minutes=25))],
    sinks=[
        SinkSnapshot("crm", SinkStats(dead=2), in_flight=1, breaker=BreakerState.CLOSED),
        SinkSnapshot(
            "telegram",
            SinkStats(waiting=14, oldest_at=ago(minutes=25)),
            in_flight=0,
            breaker=BreakerState.OPEN,
            failing_since=ago(minutes=25),
            last_error_kind=ErrorKind.CONNECTION,
        ),
    ],
    dead=DEAD_LETTERS,
    dead_lettered=(*(0,) * 20, 1, 0, 0, 1),
)
"""A sink is away, and another one refused something."""


@dataclass
class Stage:
    """Answers for the daemon.

    Attributes:
        status: the snapshot.
        looks: how often the snapshot was read.
        done: the requested actions.
        answer: their result.
        broken: every action fails with it.
    """

    status: StatusSnapshot = WELL
    looks: int = 0
    done: list[str] = field(default_factory=list)
    answer: ActionResult = ActionResult.DONE
    broken: ShopPollerError | None = None

    async def snapshot(self) -> StatusSnapshot:
        self.looks += 1
        return self.status

    async def poll_now(self) -> ActionResult:
        return self._do("poll")

    async def mute(self, sink: str, for_s: float, events: Sequence[str] = ()) -> ActionResult:
        return self._do(" ".join(["mute", sink, str(for_s), *events]))

    async def replay(self, seq: int) -> ActionResult:
        self.status = replace(self.status, dead=[one for one in self.status.dead if one.seq != seq])
        return self._do(f"replay {seq}")

    async def drop(self, seq: int) -> ActionResult:
        return self._do(f"drop {seq}")

    def _do(self, action: str) -> ActionResult:
        if self.broken is not None:
            raise self.broken
        self.done.append(action)
        return self.answer


HOSTS = ("poller.example",)
"""Names that the listener is called by."""


def status_page_of(
    stage: Stage,
    *,
    token: str | None = TOKEN,
    locale: Locale = "ru",
    clock: Callable[[], float] | None = None,
) -> StatusPage:
    admin_auth = None
    if token is not None:
        admin_auth = (
            AdminAuth(token, shop=SHOP) if clock is None else AdminAuth(token, shop=SHOP, clock=clock)
        )
    return StatusPage(stage, shop=SHOP, locale=locale, admin_auth=admin_auth)


@asynccontextmanager
async def staged(stage: Stage, *, token: str | None = TOKEN, locale: Locale = "ru") -> AsyncIterator[str]:
    """Serve the page over HTTP.

    Yields:
        Its address.
    """
    app = make_app(
        NO_HEALTH,
        None,
        lambda: status_page_of(stage, token=token, locale=locale),
        actions_enabled=token is not None,
        hosts=HOSTS,
    )
    async with serving(app, listen("127.0.0.1", 0)) as address:
        yield address
