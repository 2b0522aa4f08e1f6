"""The shop's site: what all dialects share, and what may change while it runs."""

from collections.abc import Iterable
from random import Random
from typing import Literal, TypeAlias

from shop_poller.simulator.adapters import AdapterVersion
from shop_poller.simulator.answers import Answer, php_json, rest_headers, wordpress_error
from shop_poller.simulator.keys import DEMO_KEY, DEMO_PASSWORD, ApiKey, AppPassword
from shop_poller.simulator.sessions import Sessions
from shop_poller.simulator.shop import SimulatedShop

Era: TypeAlias = Literal["sessions", "stateless", "both"]
"""The revisions of MCP that a server speaks: those with `initialize`, the stateless one, or both."""


class Site:
    """One shop's WordPress as its dialects see it. Every attribute is read for each response.

    Attributes:
        shop: The shop.
        keys: The valid API keys; change it to revoke or add one.
        passwords: The valid application passwords.
        require_https: Whether plain http is refused.
        adapter: The version of the MCP adapter that serves `abilities`.
        woocommerce_adapter: The version of the MCP adapter that serves `woocommerce-mcp`.
        era: The revisions of MCP that both MCP servers speak.
        lost_tools: The names of MCP tools and abilities that no longer exist.
        required_capabilities: The capabilities that a client of the stateless revision needs.
        sessions: The MCP sessions; both MCP servers count a user's sessions together.
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
        rng: Random | None = None,
    ) -> None:
        self.shop = shop
        self.keys = list(keys)
        self.passwords = list(passwords)
        self.require_https = require_https
        self.adapter: AdapterVersion = adapter
        self.woocommerce_adapter: AdapterVersion = "0.3.0"
        self.era: Era = "sessions"
        self.lost_tools: set[str] = set()
        self.required_capabilities: set[str] = set()
        self.sessions = Sessions(shop.clock)
        self.rng = rng or Random(0)  # noqa: S311 - an order of rows, no secret

    def json(self, status: int, body: object, *, allow: str | None = None, **headers: str) -> Answer:
        """Return a response of WordPress's REST server.

        Args:
            status: The HTTP status.
            body: What is sent as JSON; None sends nothing.
            allow: The route's methods; None if the caller was refused.
            headers: More headers, an underscore for each hyphen; they override the usual ones.
        """
        usual = rest_headers(self.shop.face.rest("/"), allow=allow)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(status, b"" if body is None else php_json(body).encode(), {**usual, **more})

    def refuse(self, code: str, text: str, status: int = 401, **headers: str) -> Answer:
        """Return an error for a caller that was refused."""
        return self.json(status, wordpress_error(code, text, status), **headers)

    def no_route(self) -> Answer:
        """Return WordPress's 404 for an unknown route."""
        text = "No route was found matching the URL and request method."
        return self.refuse("rest_no_route", text, 404)

    def broken_json(self, *, allow: str | None) -> Answer:
        """Return the error for a body whose content type is JSON but that is not JSON."""
        text, why = "Invalid JSON body passed.", "Syntax error"
        error = wordpress_error("rest_invalid_json", text, 400, json_error_code=4, json_error_message=why)
        return self.json(400, error, allow=allow)
