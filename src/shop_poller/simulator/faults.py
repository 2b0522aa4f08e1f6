"""Faults to switch on: what a real shop, its plugins, its host and the network do to responses.

A fault is placed between the request and the endpoint. It may respond by itself, or change the endpoint's
response. Faults of a single order are distortions: see `SimulatedShop.distort`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from shop_poller.simulator.answers import JSON_TYPE, NO_CACHE, Answer, Request, page, wordpress_error
from shop_poller.simulator.orders import Distortion
from shop_poller.simulator.routes import (
    MCP_DIALECTS,
    TOOLS_CALL,
    SimulatedDialect,
    asks_for_orders,
    dialect_of,
    is_call,
)
from shop_poller.simulator.spoiling import critical_error, fatal, is_good, refusal, with_page_of, wp_die

Handler: TypeAlias = Callable[[Request], Answer]

_MAINTENANCE = "Briefly unavailable for scheduled maintenance. Check back in a minute."


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: Its name in `Faults.active`.
        act: Takes the request and the next handler, and responds.
        method: The JSON-RPC method that it affects; None is every request. Each request of a dialect
            without JSON-RPC counts as `tools/call`.
        dialects: The dialects that it affects; None is all of them.
    """

    name: str
    act: Callable[[Request, Handler], Answer]
    method: str | None = None
    dialects: frozenset[str] | None = None

    def concerns(self, request: Request) -> bool:
        """Return whether it affects a request."""
        return (self.dialects is None or dialect_of(request) in self.dialects) and (
            self.method is None or is_call(request, self.method)
        )


@dataclass
class _Switched:
    fault: Fault
    left: int | None


class Faults:
    """The active faults. They act in the order in which they were added."""

    def __init__(self) -> None:
        self._on: list[_Switched] = []

    @property
    def active(self) -> list[str]:
        """The names of the active faults."""
        return [switched.fault.name for switched in self._on]

    def add(
        self,
        fault: Fault,
        *,
        times: int | None = None,
        method: str | None = None,
        dialects: Iterable[str] | None = None,
    ) -> None:
        """Switch a fault on.

        Args:
            fault: The fault.
            times: How many requests it affects; until it is cleared if not given.
            method: The JSON-RPC method that it affects, if not the fault's own.
            dialects: The dialects that it affects, if not the fault's own.
        """
        chosen = fault if method is None else replace(fault, method=method)
        if dialects is not None:
            chosen = replace(chosen, dialects=frozenset(dialects))
        self._on.append(_Switched(chosen, times))

    def clear(self, name: str | None = None) -> None:
        """Switch one fault off, or all of them."""
        self._on = [one for one in self._on if name is not None and one.fault.name != name]

    def around(self, serve: Handler) -> Handler:
        """Wrap the endpoint's handler in the active faults."""
        for switched in reversed(self._on):
            serve = self._guard(switched, serve)
        return serve

    def _guard(self, switched: _Switched, onward: Handler) -> Handler:
        def handle(request: Request) -> Answer:
            fault = switched.fault
            if not fault.concerns(request):
                return onward(request)
            if switched.left is not None:
                switched.left -= 1
                if switched.left <= 0:
                    self._on = [one for one in self._on if one is not switched]
            return fault.act(request, onward)

        return handle


def _instead(name: str, answer: Answer) -> Fault:
    return Fault(name, lambda _request, _onward: answer)


def _after(name: str, spoil: Callable[[Answer], Answer], method: str | None = None) -> Fault:
    return Fault(name, lambda request, onward: spoil(onward(request)), method)


def maintenance(*, html: bool = False) -> Fault:
    """WordPress is updating: 503, Retry-After 600."""
    if html:
        headers = {"Retry-After": "600", **NO_CACHE}
        return _instead("maintenance", page(503, "Maintenance", _MAINTENANCE, **headers))
    return _instead("maintenance", wp_die(503, _MAINTENANCE, {"Retry-After": "600"}))


def database_down() -> Fault:
    """WordPress has no database: 500 with HTML in the JSON."""
    text = "<h1>Error establishing a database connection</h1>"
    return _instead("database down", wp_die(500, text, {}))


def feature_off() -> Fault:
    """WooCommerce's MCP feature was switched off: 404 `rest_no_route`; other dialects are not affected."""

    def act(request: Request, onward: Handler) -> Answer:
        return onward(replace(request, path="/wp-json/"))

    return Fault("feature off", act, dialects=frozenset({SimulatedDialect.WOOCOMMERCE_MCP}))


def php_notice() -> Fault:
    """A faulty plugin prints an HTML warning before valid JSON."""
    notice = (
        "<br />\n<b>Warning</b>:  Undefined variable $careless in "
        "<b>/var/www/html/wp-content/plugins/careless/careless.php</b> on line <b>12</b><br />\n"
    )
    return _after("php notice", lambda answer: replace(answer, body=notice.encode() + answer.body))


def php_fatal(text: str = "Call to undefined function careless_call()") -> Fault:
    """A broken plugin: over MCP, HTTP 200 and a tool's result with PHP's error; else HTTP 500."""

    def act(request: Request, onward: Handler) -> Answer:
        return fatal(onward(request), request, text)

    return Fault("php fatal", act, TOOLS_CALL)


def rest_error(code: str, message: str, status: int) -> Fault:
    """An error of the REST API. WooCommerce's MCP and `execute` return it as data of a success.

    An ability does not use the REST API; there it is the ability's own error, which has no code.
    """
    error = wordpress_error(code, message, status)

    def act(request: Request, onward: Handler) -> Answer:
        return refusal(onward(request), request, error)

    return Fault("rest error", act, TOOLS_CALL)


def out_of_memory() -> Fault:
    """PHP ran out of memory: 500, WordPress's critical error."""
    return _after("out of memory", critical_error, TOOLS_CALL)


def captcha(status: int = 200) -> Fault:
    """A guard before the shop demands proof of a human: HTML with the status 200 or 202."""
    text = "<h1>Проверяем, что вы не робот</h1><noscript>Включите JavaScript</noscript>"
    return _instead("captcha", page(status, "Один момент…", text))


def bad_gateway(status: int = 502) -> Fault:
    """The web server cannot reach PHP: 502 or 504 in HTML."""
    return _instead("bad gateway", page(status, "Bad Gateway", "<h1>Bad Gateway</h1>"))


def rate_limited(retry_after: int | str | None = 60) -> Fault:
    """Too many requests: 429.

    Args:
        retry_after: The header Retry-After, in seconds or as a date; None leaves it out.
    """
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    text = "<h1>429 Too Many Requests</h1>"
    return _instead("rate limited", page(429, "Too Many Requests", text, **headers))


def slow(delay_s: float) -> Fault:
    """The response is delayed."""
    return _after("slow", lambda answer: replace(answer, delay_s=delay_s))


def dropped(after_bytes: int = 0) -> Fault:
    """The connection is closed: before the response, or after some bytes of its body."""
    return _after("dropped", lambda answer: replace(answer, cut_after=after_bytes))


def empty_body() -> Fault:
    """A success status and headers without a body."""
    return _after("empty body", lambda answer: replace(answer, body=b""))


def half_a_body() -> Fault:
    """JSON that ends in the middle, with a matching Content-Length."""
    return _after("half a body", lambda answer: replace(answer, body=answer.body[: len(answer.body) // 2]))


def event_stream() -> Fault:
    """The response is a stream of server-sent events, as from other MCP servers.

    Only MCP knows such streams: the other dialects are not affected.
    """

    def spoil(answer: Answer) -> Answer:
        if answer.headers.get("Content-Type") != JSON_TYPE or not answer.body:
            return answer
        body = b": keep-alive\n\nevent: message\ndata: " + answer.body + b"\n\n"
        return replace(answer, body=body, headers={**answer.headers, "Content-Type": "text/event-stream"})

    return replace(_after("event stream", spoil), dialects=MCP_DIALECTS)


def sessions_lost() -> Fault:
    """Every session is unknown, even a new one; only MCP has sessions."""

    def act(request: Request, onward: Handler) -> Answer:
        if "mcp-session-id" not in request.headers:
            return onward(request)
        unknown = {"mcp-session-id": "00000000-0000-4000-8000-000000000000"}
        return onward(replace(request, headers={**request.headers, **unknown}))

    return Fault("sessions lost", act)


def same_page_for_ever() -> Fault:
    """A cache before the shop returns each dialect's first listing for every later one."""
    kept: dict[SimulatedDialect | None, Answer] = {}

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        if not asks_for_orders(request) or not is_good(answer, request):
            return answer
        return with_page_of(answer, request, kept.setdefault(dialect_of(request), answer))

    return Fault("same page for ever", act, TOOLS_CALL)


def clock_skew(seconds: float) -> Fault:
    """The Date header is ahead of the orders' timestamps (or behind them, if negative)."""
    return _after("clock skew", lambda answer: replace(answer, date_skew_s=seconds))


def no_date() -> Fault:
    """A proxy has removed the Date header."""
    return _after("no date", lambda answer: replace(answer, date_skew_s=None))


def without(*fields: str) -> Distortion:
    """An incomplete order: these fields are missing."""
    return lambda order: {key: value for key, value in order.items() if key not in fields}


def with_values(**fields: Any) -> Distortion:
    """An order with other values: an invalid date, a total in words, a huge note."""
    return lambda order: {**order, **fields}
