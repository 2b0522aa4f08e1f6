"""A shop on the wire whose pages and counts are legal, and not what was asked for: in three dialects.

It selects as WooCommerce does, and then a theme, a plugin, a right or a join changes the page. It is asked
over HTTP: by the real daemon through a socket, or by a test through `Wire`, without one.
"""

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx

from shop_poller.sources.woocommerce.dialects import ROUTES, Dialect

MODIFIED, CREATED = "date_modified_gmt", "date_created_gmt"
Params = Mapping[str, Any]
Row = dict[str, Any]
Count = Callable[[int, int, int], tuple[str | None, str | None]]
"""What the shop says of the number of orders and pages, by the rows that match, the size of a page that was
asked for, and the size that it sent."""


def truthful(matching: int, _: int, size: int) -> tuple[str | None, str | None]:
    """Pages of the size that it sends."""
    return str(matching), str(ceil(matching / size))


def by_requested_size(matching: int, requested: int, _: int) -> tuple[str | None, str | None]:
    """Pages of the size that it was asked for: the cap came later."""
    return str(matching), str(ceil(matching / requested))


def of_one_page(matching: int, _: int, size: int) -> tuple[str | None, str | None]:
    """No more than it sends: the cap spoiled the count, too."""
    return str(min(matching, size)), "1"


def says(total: str | None, pages: str | None) -> Count:
    """The same whatever matches."""
    return lambda *_: (total, pages)


untold = says(None, None)


@dataclass
class LyingShop:
    """The shop.

    Attributes:
        clock: aware UTC.
        cap: the most rows of a page, whatever is asked for; 0 for none.
        count: what it says of the numbers of orders and pages; REST in headers, abilities in the answer.
        hidden: ids that it selects, and takes out of the page.
        hides: takes rows out of a page by the question, too.
        doubled: so many rows an order.
        doubles_late: the rows are doubled after the page was selected: it is longer than asked for.
        ignores: parameters that it does not listen to.
        before: happens before each question is answered.
        meanwhile: happens after the rows of a page were chosen.
        questions: the parameters of each listing, in order.
        answer_s: how long an answer takes.
    """

    clock: Callable[[], datetime]
    cap: int = 0
    count: Count = truthful
    hidden: Collection[int] = frozenset()
    hides: Callable[[Params, list[Row]], list[Row]] = lambda _, rows: rows
    doubled: int = 1
    doubles_late: bool = False
    ignores: Collection[str] = frozenset()
    before: Callable[[], None] = lambda: None
    meanwhile: Callable[[Sequence[int]], None] = lambda _: None
    questions: list[Params] = field(default_factory=list)
    answer_s: float = 0.0
    rows: dict[int, Row] = field(default_factory=dict)

    # --- What people do to it ---

    def put(
        self,
        order_id: int,
        status: str = "processing",
        *,
        ago_s: float = 0,
        created_ago_s: float | None = None,
    ) -> None:
        """An order comes, or changes; dated so many seconds ago."""
        before = self.rows.get(order_id, {})
        now = self.clock().replace(microsecond=0)
        made_ago_s = created_ago_s if created_ago_s is not None or before else ago_s
        created = before[CREATED] if made_ago_s is None else _naive(now - timedelta(seconds=made_ago_s))
        self.rows[order_id] = {
            "id": order_id,
            "number": str(order_id),
            "status": status,
            "total": "1930.00",
            "currency": "RUB",
            "currency_symbol": "₽",
            "billing": {"first_name": "Анна"},
            CREATED: created,
            MODIFIED: _naive(now - timedelta(seconds=ago_s)),
            "date_paid_gmt": created,
            "refunds": [],
        }

    # --- What it answers ---

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer a request: status, headers and body."""
        headers = {
            "Date": format_datetime(self.clock(), usegmt=True),
            "Content-Type": "application/json; charset=UTF-8",
        }
        path = urlsplit(url).path
        if path.endswith(ROUTES[Dialect.REST]):
            rows, counts = self._list(_rest_params(url, body))
            told = zip(("X-WP-Total", "X-WP-TotalPages"), counts, strict=True)
            headers |= {name: value for name, value in told if value is not None}
            return 200, headers, json.dumps(rows).encode()
        message = json.loads(body or b"{}")
        if method != "POST" or "id" not in message:
            return (200 if method == "DELETE" else 202), headers, b""
        headers["Mcp-Session-Id"] = "session-1"
        dialect = Dialect.ABILITIES if path.endswith(ROUTES[Dialect.ABILITIES]) else Dialect.WOOCOMMERCE_MCP
        result = self._result(dialect, message)
        return 200, headers, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()

    def _result(self, dialect: Dialect, message: Mapping[str, Any]) -> dict[str, Any]:
        if message["method"] == "initialize":
            version = message["params"]["protocolVersion"]
            info = {"name": "shop", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        if message["method"] == "tools/list":
            names = ("woocommerce-orders-list", "mcp-adapter-execute-ability")
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
        requested = message["params"]["arguments"]
        if dialect is Dialect.WOOCOMMERCE_MCP:
            content: dict[str, Any] = {"data": self._list(requested)[0]}
        else:
            requested = requested["parameters"]
            rows, (total, pages) = self._list(_from_ability(requested))
            told = {"total": total, "total_pages": pages}
            data = {"orders": rows, "page": requested.get("page", 1), "per_page": requested["per_page"]}
            data |= {name: _number(value) for name, value in told.items() if value is not None}
            content = {"success": True, "data": data}
        return {
            "content": [{"type": "text", "text": json.dumps(content)}],
            "structuredContent": content,
            "isError": False,
        }

    def _list(self, params: Params) -> tuple[list[Row], tuple[str | None, str | None]]:
        self.questions.append(params)
        self.before()
        requested = {name: value for name, value in params.items() if name not in self.ignores}
        matching = _matching(self.rows.values(), requested)
        date = CREATED if requested.get("orderby") == "date" else MODIFIED
        matching.sort(key=lambda row: (row[date], row["id"]), reverse=requested.get("order") == "desc")
        if not self.doubles_late:
            matching = [row for row in matching for _ in range(self.doubled)]
        wanted = int(requested.get("per_page", 10))
        size = min(wanted, self.cap or wanted)
        begin = (int(requested.get("page", 1)) - 1) * size
        ids = [row["id"] for row in matching[begin : begin + size]]
        self.meanwhile(ids)
        page = [self.rows[order_id] for order_id in ids if order_id in self.rows]
        page = self.hides(requested, [row for row in page if row["id"] not in self.hidden])
        if self.doubles_late:
            page = [row for row in page for _ in range(self.doubled)]
        return page, self.count(len(matching), wanted, size)


class Wire(httpx.AsyncBaseTransport):
    """In place of a socket.

    Args:
        shop: at the other end.
    """

    def __init__(self, shop: LyingShop) -> None:
        self._shop = shop

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, headers, body = self._shop.answer(request.method, str(request.url), await request.aread())
        await anyio.sleep(self._shop.answer_s)
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


@contextmanager
def serving(shop: LyingShop) -> Iterator[str]:
    """Serve it on a loopback socket; yields the shop's address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            with lock:
                status, headers, answer = shop.answer(self.command, self.path, body)
            self.send_response_only(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    lock = threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _matching(rows: Iterable[Row], requested: Params) -> list[Row]:
    ids, statuses, excluded = (
        set(_list_of(requested.get(name))) for name in ("include", "status", "exclude")
    )
    modified_after = requested.get("modified_after", "")
    after, before = requested.get("after", ""), requested.get("before", "9999")
    return [
        row
        for row in rows
        if row[MODIFIED] > modified_after
        and after < row[CREATED] < before
        and str(row["id"]) not in excluded
        and (not ids or str(row["id"]) in ids)
        and (not statuses or row["status"] in statuses)
    ]


def _list_of(value: object) -> list[str]:
    if value is None:
        return []
    return value.split(",") if isinstance(value, str) else [str(each) for each in value]  # type: ignore[attr-defined]


def _rest_params(url: str, body: bytes) -> Params:
    query = dict(parse_qsl(urlsplit(url).query))
    return query | (json.loads(body) if body else {})


def _from_ability(requested: Params) -> Params:
    names = {"date_after": "after", "date_before": "before", "id": "include"}
    found = {names.get(name, name): value for name, value in requested.items()}
    for name in ("after", "before", "modified_after"):
        if name in found:
            found[name] = found[name].removesuffix("Z")
    if "include" in found:
        found["include"] = [found["include"]]
    return found


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _naive(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
