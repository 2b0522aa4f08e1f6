"""The shop's HTTP side: the route, the keys, the headers, and the troubles that are switched on."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs

from shop_poller.simulator.answers import (
    SERVER,
    Answer,
    Request,
    php_json,
    rest_headers,
    wordpress_error,
)
from shop_poller.simulator.faults import Faults
from shop_poller.simulator.keys import DEMO_KEY, ApiKey
from shop_poller.simulator.rpc import INTERNAL_ERROR, INVALID_REQUEST, RpcServer, rpc_error
from shop_poller.simulator.sessions import Sessions
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.simulator.tools import Tools

ROUTE = "/woocommerce/mcp"
PATH = f"/wp-json{ROUTE}"


class Endpoint:
    """`…/wp-json/woocommerce/mcp` of one shop, without the network: a request in, an answer out.

    Attributes:
        shop: The shop.
        keys: The keys that are good; change it to revoke or add one.
        require_https: Whether plain http is refused.
        sessions: The MCP sessions.
        faults: The troubles that are switched on.

    Args:
        shop: The shop.
        keys: The keys that are good.
        require_https: Whether plain http is refused, as a real shop does unless it is told not to.
    """

    def __init__(
        self,
        shop: SimulatedShop,
        *,
        keys: Iterable[ApiKey] = (DEMO_KEY,),
        require_https: bool = False,
    ) -> None:
        self.shop = shop
        self.keys = list(keys)
        self.require_https = require_https
        self.sessions = Sessions(shop.clock)
        self.faults = Faults()
        self._rpc = RpcServer(Tools(shop), self.sessions)

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return self.shop.url + PATH

    def answer(self, request: Request) -> Answer:
        """Answer a request; the answer has a Date of the shop's clock."""
        return self.dated(self.faults.around(self._serve)(request))

    def dated(self, answer: Answer) -> Answer:
        """Put the Date of the shop's clock, and the server's name, on an answer."""
        headers = {"Server": SERVER, **answer.headers}
        if answer.date_skew_s is not None:
            date = self.shop.clock() + timedelta(seconds=answer.date_skew_s)
            headers["Date"] = format_datetime(date.astimezone(UTC), usegmt=True)
        return replace(answer, headers=headers)

    def _serve(self, request: Request) -> Answer:
        if _route(request) != ROUTE or request.method not in ("POST", "GET", "DELETE"):
            text = "No route was found matching the URL and request method."
            return self._json(404, wordpress_error("rest_no_route", text, 404))
        key = self._authenticate(request)
        # WordPress reads the body before it asks who is there.
        if _is_broken_json(request):
            text, why = "Invalid JSON body passed.", "Syntax error"
            error = wordpress_error("rest_invalid_json", text, 400, json_error_code=4, json_error_message=why)
            return self._json(400, error, signed_in=isinstance(key, ApiKey))
        if isinstance(key, Answer):
            return key
        session_id = request.headers.get("mcp-session-id") or None
        match request.method:
            case "POST":
                return self._post(request, key, session_id)
            case "DELETE":
                return self._end_session(key, session_id)
            case _:
                text = "Internal error: SSE streaming not yet implemented"
                return self._json(405, rpc_error(0, INTERNAL_ERROR, text), signed_in=True)

    def _post(self, request: Request, key: ApiKey, session_id: str | None) -> Answer:
        body = request.rpc if _is_json(request) else None
        reply = self._rpc.reply(body, key, session_id)
        answer = self._json(reply.status, reply.body, signed_in=True)
        if reply.session_id is None:
            return answer
        return replace(answer, headers={**answer.headers, "Mcp-Session-Id": reply.session_id})

    def _end_session(self, key: ApiKey, session_id: str | None) -> Answer:
        if session_id is None:
            text = "Invalid Request: Missing Mcp-Session-Id header"
            return self._json(400, rpc_error(0, INVALID_REQUEST, text), signed_in=True)
        self.sessions.close(key.user, session_id)
        return self._json(200, None, signed_in=True)

    def _authenticate(self, request: Request) -> ApiKey | Answer:
        if self.require_https and not request.secure:
            return self._refuse("insecure_transport", "HTTPS is required for MCP requests.", 403)
        header = request.headers.get("x-mcp-api-key", "")
        form = "consumer_key:consumer_secret"
        if not header:
            return self._refuse("missing_api_key", f"X-MCP-API-Key header required. Format: {form}")
        if ":" not in header:
            return self._refuse("invalid_api_key", f"X-MCP-API-Key must be in format {form}")
        key = next((key for key in self.keys if key.header == header), None)
        if key is None:
            return self._refuse("authentication_failed", "Authentication failed.")
        if not key.user_exists:
            text = "The user associated with this API key no longer exists."
            return self._refuse("mcp_user_not_found", text)
        return key

    def _refuse(self, code: str, text: str, status: int = 401) -> Answer:
        return self._json(status, wordpress_error(code, text, status))

    def _json(self, status: int, body: object, *, signed_in: bool = False) -> Answer:
        headers = rest_headers(self.shop.face.rest("/"), signed_in=signed_in)
        return Answer(status, b"" if body is None else php_json(body).encode(), headers)


def _route(request: Request) -> str | None:
    if request.path in ("/index.php", "/"):
        return parse_qs(request.query).get("rest_route", [None])[0]
    return request.path.removeprefix("/wp-json") if request.path.startswith("/wp-json") else None


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"


def _is_broken_json(request: Request) -> bool:
    return _is_json(request) and bool(request.body) and request.is_broken
