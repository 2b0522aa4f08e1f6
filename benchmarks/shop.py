"""A shop that answers at once, with full orders as a real one showed them: its own process.

It has WooCommerce's MCP endpoint and, for the Celery design, the call that it makes. A real shop takes a
second for a hundred orders; that would be the same for all that are measured, and hide them.

    POST /orders?n=100   so many new paid orders, instead of those before
    GET /stats           {requests, first, listed, listings}
"""

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.http import response, serve

RECORDED = Path(__file__).parents[1] / "tests" / "data" / "wire" / "orders" / "orders-by-status.json"
SESSION = {
    "protocolVersion": "2025-06-18",
    "serverInfo": {"name": "WooCommerce MCP Server", "version": "1.0.0"},
    "capabilities": {"tools": {}},
}
TOOL = "woocommerce-orders-list"


@dataclass(frozen=True)
class ShownOrder:
    """An order as it is shown.

    Attributes:
        at: when it was made, paid and last changed: UTC without a zone.
        shown: its JSON.
    """

    id: int
    at: str
    shown: str


def orders(n: int, *, first_id: int, at: datetime, step: int = 1) -> list[ShownOrder]:
    """New paid orders, each with what a recorded one has in it."""
    recorded = [order for _, order in sorted(json.loads(RECORDED.read_bytes()).items())]
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S")
    dates = {f"date_{what}{zone}": stamp for what in ("created", "modified", "paid") for zone in ("", "_gmt")}
    made: list[ShownOrder] = []
    for number in range(n):
        order = {
            **recorded[number % len(recorded)],
            **dates,
            "id": first_id + number * step,
            "number": str(first_id + number * step),
            "status": "processing",
            "refunds": [],
        }
        shown = json.dumps(order, separators=(",", ":")).replace("/", "\\/")  # as PHP does
        made.append(ShownOrder(order["id"], stamp, shown))
    return made


def listing(shown: list[ShownOrder]) -> str:
    """What the shop's tool returns."""
    return f'{{"data":[{",".join(order.shown for order in shown)}]}}'


def _result(request_id: object, result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()


def tool_result(request_id: object, content: str) -> bytes:
    """A tool's result, which is said twice: as text, and as it is."""
    text = json.dumps(content)
    said = f'{{"content":[{{"type":"text","text":{text}}}],"structuredContent":{content}}}'
    return f'{{"jsonrpc":"2.0","id":{json.dumps(request_id)},"result":{said}}}'.encode()


class Shop:
    """Answers.

    Attributes:
        requests: that were made.
        first: when the first of them came, by the machine's monotonic clock; 0: none yet.
        listed: when the first came that was answered with the orders that are there now; 0: none yet.
        listings: questions for orders.
    """

    def __init__(self) -> None:
        self.requests, self.listings = 0, 0
        self.first, self.listed = 0.0, 0.0
        self._next_id = int(time.time())
        self._orders: list[ShownOrder] = []
        self._whole = (listing([]), tool_result(0, listing([])))

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        """Answer a request."""
        del method
        came = time.monotonic()
        url = urlsplit(target)
        if url.path == "/stats":
            shown = {name: getattr(self, name) for name in ("requests", "first", "listed", "listings")}
            return response(json.dumps(shown).encode())
        if url.path == "/orders":
            self._put(int(parse_qs(url.query)["n"][0]))
            return response()
        self.requests += 1
        self.first = self.first or came
        date = f"Date: {formatdate(usegmt=True)}\r\n"
        message = json.loads(body) if body else {}
        if url.path.endswith("/execute"):
            return response(self._list(message["params"], came).encode(), headers=date)
        return self._answer_mcp(message, date, came)

    def _answer_mcp(self, message: dict[str, Any], date: str, came: float) -> bytes:
        request_id = message.get("id")
        match message.get("method"):
            case "initialize":
                said = _result(request_id, SESSION)
                date += f"Mcp-Session-Id: {came}\r\n"
            case "tools/list":
                said = _result(request_id, {"tools": [{"name": TOOL}]})
            case "tools/call":
                content = self._list(message["params"]["arguments"], came)
                if content is self._whole[0]:  # was made before, so that it takes no time
                    said = self._whole[1].replace(b'"id":0,', b'"id":%d,' % message["id"], 1)
                else:
                    said = tool_result(request_id, content)
            case _:
                said = b""
        return response(said, headers=date)

    def _put(self, n: int) -> None:
        self._orders = orders(n, first_id=self._next_id, at=datetime.now(UTC))
        self._next_id += n
        self._whole = (listing(self._orders), tool_result(0, listing(self._orders)))
        self.listed = 0.0

    def _list(self, requested: dict[str, Any], came: float) -> str:
        self.listings += 1
        after = max(requested.get("modified_after", "")[:19], requested.get("after", "")[:19])
        before, exclude = requested.get("before", "9"), set(requested.get("exclude", ()))
        include = set(requested.get("include", ()))
        shown = [
            order
            for order in self._orders
            if after < order.at < before
            and order.id not in exclude
            and (not include or order.id in include)
            and "processing" in requested.get("status", ["processing"])
        ][: requested["per_page"]]
        if shown:
            self.listed = self.listed or came
        return self._whole[0] if len(shown) == len(self._orders) else listing(shown)


async def main() -> None:
    """Run until ended."""
    server = await serve(Shop().answer)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
