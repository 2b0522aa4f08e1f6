"""The shop's HTTP side: chooses the dialect, and applies the active faults."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, timedelta
from email.utils import format_datetime
from random import Random

from shop_poller.simulator import auth
from shop_poller.simulator.abilities import AbilityTools
from shop_poller.simulator.adapters import (
    DEFAULT_SERVER_ADAPTERS,
    WOOCOMMERCE_ADAPTERS,
    AdapterVersion,
)
from shop_poller.simulator.answers import SERVER, Answer, Request, page
from shop_poller.simulator.bridge import Bridge
from shop_poller.simulator.faults import Faults
from shop_poller.simulator.keys import DEMO_KEY, DEMO_PASSWORD, ApiKey, AppPassword
from shop_poller.simulator.mcp import McpServer
from shop_poller.simulator.refunds import SimulatedRefundList
from shop_poller.simulator.rest import RestOrders
from shop_poller.simulator.routes import ROUTES, SimulatedDialect, dialect_of
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.simulator.site import Site
from shop_poller.simulator.spoiling import without_reasons
from shop_poller.simulator.tools import Tools

PATH = f"/wp-json{ROUTES[SimulatedDialect.WOOCOMMERCE_MCP]}"
# nginx's limit of a request's first line, which contains the address.
MAX_REQUEST_LINE_BYTES = 8192


class Endpoint(Site):
    """One shop's site without the network: takes a request, returns a response.

    Attributes:
        offers: The names of the available dialects; change it to simulate an upgrade.
        faults: The active faults.
        refunds: The list of refunds, which belongs to the REST API.

    Args:
        shop: The shop.
        keys: The valid API keys.
        passwords: The valid application passwords.
        require_https: Whether plain http is refused, as by a real shop without special settings.
        adapter: The version of the MCP adapter that serves `abilities`.
        offers: The available dialects. By default all but `execute`, which no real shop has.
        rng: Determines the order of a database's ties; seeded if not given.
    """

    def __init__(
        self,
        shop: SimulatedShop,
        *,
        keys: Iterable[ApiKey] = (DEMO_KEY,),
        passwords: Iterable[AppPassword] = (DEMO_PASSWORD,),
        require_https: bool = False,
        adapter: AdapterVersion = "0.5.0",
        offers: Iterable[str] = (
            SimulatedDialect.WOOCOMMERCE_MCP,
            SimulatedDialect.ABILITIES,
            SimulatedDialect.REST,
        ),
        rng: Random | None = None,
    ) -> None:
        super().__init__(
            shop, keys=keys, passwords=passwords, require_https=require_https, adapter=adapter, rng=rng
        )
        self.offers: set[str] = set(offers)
        self.faults = Faults()
        self.refunds = SimulatedRefundList(self)
        woocommerce = McpServer(
            self, Tools(shop), lambda: WOOCOMMERCE_ADAPTERS[self.woocommerce_adapter], auth.by_api_key
        )
        plugin = McpServer(
            self, AbilityTools(self), lambda: DEFAULT_SERVER_ADAPTERS[self.adapter], auth.by_password
        )
        self._dialects = {
            SimulatedDialect.WOOCOMMERCE_MCP: woocommerce.answer,
            SimulatedDialect.ABILITIES: plugin.answer,
            SimulatedDialect.REST: RestOrders(self).answer,
            SimulatedDialect.EXECUTE: Bridge(self).answer,
        }

    @property
    def url(self) -> str:
        """The address of WooCommerce's own MCP endpoint."""
        return self.shop.url + PATH

    def address(self, dialect: str) -> str:
        """Return the address of a dialect, in the form of the shop's permalinks."""
        return self.shop.face.rest(ROUTES[SimulatedDialect(dialect)])

    def answer(self, request: Request) -> Answer:
        """Answer a request; the response has a Date of the shop's clock."""
        answer = self.faults.around(self._serve)(request)
        if (
            DEFAULT_SERVER_ADAPTERS[self.adapter].hides_reasons
            and dialect_of(request) is SimulatedDialect.ABILITIES
        ):
            answer = without_reasons(answer)
        return self.dated(answer)

    def dated(self, answer: Answer) -> Answer:
        """Add the Date of the shop's clock, and the server's name, to a response."""
        headers = {"Server": SERVER, **answer.headers}
        if answer.date_skew_s is not None:
            date = self.shop.clock() + timedelta(seconds=answer.date_skew_s)
            headers["Date"] = format_datetime(date.astimezone(UTC), usegmt=True)
        return replace(answer, headers=headers)

    def _serve(self, request: Request) -> Answer:
        line = f"{request.method} {request.path}?{request.query} HTTP/1.1\r\n"
        if len(line) > MAX_REQUEST_LINE_BYTES:
            return page(414, "414", "<h1>414 Request-URI Too Large</h1>")
        if SimulatedDialect.REST in self.offers and self.refunds.concerns(request):
            return self.refunds.answer(request)
        dialect = dialect_of(request)
        if dialect is None or dialect not in self.offers:
            return self.no_route()
        return self._dialects[dialect](request)
