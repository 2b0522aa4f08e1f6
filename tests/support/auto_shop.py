"""A simulated shop as the only address in the world, without sockets, and what `auto` makes of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import anyio
import httpx
import respx

from shop_poller.simulator.answers import Request
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_KEY, DEMO_PASSWORD
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.sources.woocommerce import open_source
from shop_poller.sources.woocommerce.auto import Auto, ChosenDialect
from shop_poller.sources.woocommerce.dialects import NEEDS, KnownKeys, candidates

KEYS = KnownKeys(DEMO_KEY.consumer_key, DEMO_KEY.consumer_secret)
PASSWORD = KnownKeys(username=DEMO_PASSWORD.username, password=DEMO_PASSWORD.password)
BOTH = KnownKeys(KEYS.consumer_key, KEYS.consumer_secret, PASSWORD.username, PASSWORD.password)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class AutoShop:
    """A shop, and a clock for whoever asks it.

    Attributes:
        down: what every request meets, if set.
        on_request: is shown every request before it is answered.
        instead: what is answered in place of the shop's own answer, if it gives one.
        requested: method and path of every request.
        choices: what `auto` said.
    """

    endpoint: Endpoint
    down: Exception | None = None
    on_request: Callable[[httpx.Request], None] = lambda _: None
    instead: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    requested: list[str] = field(default_factory=list)
    choices: list[ChosenDialect] = field(default_factory=list)
    seconds: float = 0.0

    def auto(self, credentials: KnownKeys = BOTH, *, url: str | None = None) -> Auto:
        """As app.make_source builds it."""
        address = url or self.endpoint.url
        dialects = candidates(address)

        return Auto(
            {d: partial(open_source, d, address, credentials) for d in dialects if credentials.fit(d)},
            missing={d: f"needs {NEEDS[d]}" for d in dialects if not credentials.fit(d)},
            on_choice=self.choices.append,
            clock=lambda: self.seconds,
        )

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, or not."""
        self.requested.append(f"{request.method} {request.url.path}")
        self.on_request(request)
        await anyio.lowlevel.checkpoint()  # as over a network, one may be cut off here
        if self.down is not None:
            raise self.down
        if (instead := self.instead(request)) is not None:
            return instead
        answer = self.endpoint.answer(
            Request(
                method=request.method,
                path=request.url.path,
                headers={name.lower(): value for name, value in request.headers.items()},
                body=request.content,
                query=request.url.query.decode(),
                secure=request.url.scheme == "https",
            )
        )
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)


@contextmanager
def auto_shop() -> Iterator[AutoShop]:
    """The only address in the world while it lasts."""
    shop = AutoShop(Endpoint(SimulatedShop(lambda: NOW, url="https://shop.example")))
    with respx.mock(assert_all_called=False) as router:
        router.route().mock(side_effect=shop.answer)
        yield shop
