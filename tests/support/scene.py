"""A daemon as the status page sees it, made up: for the tests of the page, and for the README's pictures."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

from shop_poller.core.breaker import State
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.ports import Alert, Settled, ShopState, SinkStats
from shop_poller.web.front import Front
from shop_poller.web.gate import Gate
from shop_poller.web.glance import Asked, Glance, Happening, SinkGlance
from shop_poller.web.routes import Vitals, make_app
from shop_poller.web.server import listen, serving

SHOP = "shop.example"
TOKEN = "a-token-that-nobody-guesses"
NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)
NO_VITALS = cast("Vitals", None)  # nobody asks for them here
MADE = (4, 2, 1, 0, 0, 1, 3, 7, 12, 15, 18, 14, 16, 21, 19, 17, 22, 25, 20, 14, 11, 9, 8, 6)


def ago(**how_long: float) -> datetime:
    return NOW - timedelta(**how_long)


def settled(seq: int, sink: str, key: str, event: str, *, at: datetime, reason: str = "") -> Settled:
    return Settled(seq, sink, key, f"{key}/{event}", event, 3 if reason else 0, at, reason)


def _events() -> list[Happening]:
    told = [
        ("shop.order.new", "1042", 40.0),
        ("shop.order.new", "1041", 190.0),
        ("shop.order.partially_refunded", "1037", 840.0),
        ("shop.order.cancelled", "1039", 1500.0),
        ("shop.order.failed", "1040", 2900.0),
    ]
    return [
        Happening(
            event,
            key,
            [
                settled(n, sink, key, event, at=ago(seconds=age + n))
                for n, sink in enumerate(("crm", "telegram"))
            ],
        )
        for event, key, age in told
    ]


WELL = Glance(
    shop=SHOP,
    version="1.0.0",
    now=NOW,
    polling=True,
    leads=True,
    next_in_s=42,
    state=ShopState(ago(days=90), ago(days=90), ago(seconds=20), last_poll_at=ago(seconds=18)),
    known=12_480,
    sinks=[
        SinkGlance("crm", SinkStats(), held=0, breaker=State.CLOSED),
        SinkGlance("telegram", SinkStats(), held=0, breaker=State.CLOSED),
    ],
    happenings=_events(),
    made=MADE,
    buried=(0,) * 24,
)
"""All is well."""

LETTERS = [
    settled(57, "crm", "1038", "shop.order.new", at=ago(minutes=42), reason="422: unknown brand"),
    settled(41, "crm", "1031", "shop.order.refunded", at=ago(hours=3), reason="400: field total is missing"),
]
TROUBLED = replace(
    WELL,
    set_aside=1,
    alerts=[Alert("telegram", ErrorKind.CONNECTION, ago(minutes=25))],
    sinks=[
        SinkGlance("crm", SinkStats(dead=2), held=1, breaker=State.CLOSED),
        SinkGlance(
            "telegram",
            SinkStats(waiting=14, oldest_at=ago(minutes=25)),
            held=0,
            breaker=State.OPEN,
            failing_since=ago(minutes=25),
            ailment=ErrorKind.CONNECTION,
        ),
    ],
    dead=LETTERS,
    buried=(*(0,) * 20, 1, 0, 0, 1),
)
"""A sink is away, and another one refused something."""


@dataclass
class Stage:
    """Answers for the daemon.

    Attributes:
        seen: what there is to see.
        looks: how often that was looked at.
        done: what was asked for.
        answer: what comes of asking for it.
        wait_s: how long the shop is left alone.
        broken: every deed fails with it.
    """

    seen: Glance = WELL
    looks: int = 0
    done: list[str] = field(default_factory=list)
    answer: Asked = Asked.DONE
    broken: ShopPollerError | None = None
    wait_s: float = 0.0

    async def glance(self) -> Glance:
        self.looks += 1
        return self.seen

    async def poll_now(self) -> tuple[Asked, float]:
        return self._do("poll"), self.wait_s

    async def replay(self, seq: int) -> Asked:
        self.seen = replace(self.seen, dead=[one for one in self.seen.dead if one.seq != seq])
        return self._do(f"replay {seq}")

    async def drop(self, seq: int) -> Asked:
        return self._do(f"drop {seq}")

    def _do(self, deed: str) -> Asked:
        if self.broken is not None:
            raise self.broken
        self.done.append(deed)
        return self.answer


def front(
    stage: Stage,
    *,
    token: str | None = TOKEN,
    locale: Locale = "ru",
    clock: Callable[[], float] | None = None,
) -> Front:
    gate = None
    if token is not None:
        gate = Gate(token, shop=SHOP) if clock is None else Gate(token, shop=SHOP, clock=clock)
    return Front(stage, shop=SHOP, locale=locale, hosts={"poller.example"}, gate=gate)


@asynccontextmanager
async def staged(stage: Stage, *, token: str | None = TOKEN, locale: Locale = "ru") -> AsyncIterator[str]:
    """Serve the page over HTTP.

    Yields:
        Its address.
    """
    app = make_app(NO_VITALS, None, lambda: front(stage, token=token, locale=locale), acts=token is not None)
    async with serving(app, listen("127.0.0.1", 0)) as address:
        yield address
