"""A shop that answers as a test tells it, byte for byte, and keeps what it was asked (without a socket)."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import respx

from support import wire

URL = "https://shop.example/wp-json/woocommerce/mcp"
KEY = "ck_key0of0the0shop0that0nobody0may0read00000"
SECRET = "cs_secret0of0the0shop0that0nobody0may0read000"
DATE = "Mon, 23 Nov 2026 01:55:05 GMT"
INITIALIZED = "notifications/initialized"
QUESTIONS = ("tools/call", "GET", "POST")


@dataclass(frozen=True)
class SentRequest:
    """A request that arrived."""

    request: httpx.Request

    @property
    def json(self) -> dict[str, Any]:
        """The JSON-RPC message; empty if there is none."""
        message: dict[str, Any] = json.loads(self.request.content or b"{}")
        return message

    @property
    def method(self) -> str:
        """JSON-RPC's method, or HTTP's where there is none."""
        return str(self.json.get("method", self.request.method))

    @property
    def session(self) -> str | None:
        """The session that it was asked in."""
        session: str | None = self.request.headers.get("mcp-session-id")
        return session

    @property
    def arguments(self) -> dict[str, Any]:
        """What the tool was called with."""
        arguments: dict[str, Any] = self.json["params"]["arguments"]
        return arguments


Reply = Callable[[SentRequest], httpx.Response]


def body(
    content: bytes | str,
    *,
    status: int = 200,
    content_type: str = "application/json; charset=UTF-8",
    date: str | None = DATE,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """These bytes."""
    own = {"content-type": content_type, **({"date": date} if date is not None else {}), **(headers or {})}
    return lambda _: httpx.Response(status, content=content, headers=own)


def page(html: str, status: int = 200, **headers: str) -> Reply:
    """Something for a person to look at."""
    return body(html, status=status, content_type="text/html; charset=UTF-8", headers=headers)


def answer(result: object, *, before: str = "", after: str = "", **options: Any) -> Reply:
    """A JSON-RPC answer to whatever was asked."""

    def reply(requested: SentRequest) -> httpx.Response:
        text = json.dumps(
            {"jsonrpc": "2.0", "id": requested.json.get("id"), "result": result}, separators=(",", ":")
        )
        return body(before + text + after, **options)(requested)

    return reply


def error(code: object, message: str = "", status: int = 200, **options: Any) -> Reply:
    """A JSON-RPC error."""

    def reply(requested: SentRequest) -> httpx.Response:
        problem = {"code": code, "message": message}
        text = json.dumps({"jsonrpc": "2.0", "id": requested.json.get("id"), "error": problem})
        return body(text, status=status, **options)(requested)

    return reply


def tool(content: object, **options: Any) -> Reply:
    """What a tool of WooCommerce's returned: structured, and the same as text."""
    text = json.dumps(content)
    return answer({"content": [{"type": "text", "text": text}], "structuredContent": content}, **options)


def orders(*listed: object, **options: Any) -> Reply:
    """A list of orders."""
    return tool({"data": list(listed)}, **options)


def recorded(name: str) -> Reply:
    """The recorded answer, but for its id, which becomes that of the question."""
    exchange = wire.load(name)
    found = re.match(rb'.{0,1000}?\{"jsonrpc":"2\.0","id":(\d+)', exchange.response.body, re.DOTALL)
    headers = {
        k: v for k, v in exchange.response.headers.items() if k not in {"transfer-encoding", "connection"}
    }
    headers.setdefault("date", DATE)  # it was not kept in every recording

    def reply(requested: SentRequest) -> httpx.Response:
        content = exchange.response.body
        if found and found[1] != b"0":  # 0 is what the shop says when it could not read the question
            content = content[: found.start(1)] + b"%d" % requested.json["id"] + content[found.end(1) :]
        return httpx.Response(exchange.response.status, content=content, headers=headers)

    return reply


def broken(problem: Exception) -> Reply:
    """No answer at all."""

    def reply(_: SentRequest) -> httpx.Response:
        raise problem

    return reply


class Chunks(httpx.AsyncByteStream):
    """A body that comes in pieces; how many of them were taken is counted."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece

    async def aclose(self) -> None:
        self.closed = True


def stream(pieces: Chunks, *, content_type: str = "application/json", **headers: str) -> Reply:
    """A body that comes in pieces."""
    own = {"content-type": content_type, "date": DATE, **headers}
    return lambda _: httpx.Response(200, stream=pieces, headers=own)


def events(*blocks: bytes, cut: Callable[[bytes], Iterable[bytes]] = lambda raw: [raw]) -> Reply:
    """An event stream; `%d` in a block becomes the question's id; `cut` says in which pieces it comes."""

    def reply(requested: SentRequest) -> httpx.Response:
        raw = b"".join(blocks).replace(b"%d", b"%d" % requested.json["id"])
        return stream(Chunks(cut(raw)), content_type="text/event-stream")(requested)

    return reply


@dataclass
class ScriptedShop:
    """A shop's endpoint: MCP with a session, or plain HTTP.

    Attributes:
        requested: every request, in order.
        script: what each method (JSON-RPC's, else HTTP's) is answered with, one after the other; the last
            one stays.
    """

    url: str = URL
    requested: list[SentRequest] = field(default_factory=list)
    script: dict[str, list[Reply]] = field(default_factory=dict)
    sessions: int = 0

    def on(self, method: str, *replies: Reply) -> None:
        """Say how a method is answered from now on."""
        self.script[method] = list(replies)

    def on_call(self, *replies: Reply) -> None:
        """Say how tools/call is answered from now on."""
        self.on("tools/call", *replies)

    def on_question(self, *replies: Reply) -> None:
        """Say how whatever lists orders is answered from now on, in any dialect."""
        for method in QUESTIONS:
            self.on(method, *replies)

    @property
    def questions(self) -> list[SentRequest]:
        """What was asked of orders, in any dialect."""
        return [requested for requested in self.requested if requested.method in QUESTIONS]

    @property
    def methods(self) -> list[str]:
        """What was asked, in order."""
        return [requested.method for requested in self.requested]

    @property
    def calls(self) -> list[SentRequest]:
        """The tools/call among it."""
        return [requested for requested in self.requested if requested.method == "tools/call"]

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        requested = SentRequest(request)
        self.requested.append(requested)
        replies = self.script.get(requested.method) or [self._usual(requested)]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply(requested)

    def _usual(self, requested: SentRequest) -> Reply:
        if requested.method == "initialize":
            self.sessions += 1
            result = wire.load("session/initialize").response.json()["result"]
            return answer(result, headers={"mcp-session-id": f"session-{self.sessions}"})
        return recorded("orders/page-beyond") if requested.method == "tools/call" else body(b"")


@contextmanager
def scripted_shop(url: str = URL) -> Iterator[ScriptedShop]:
    """The only address in the world while it lasts, with any query."""
    with respx.mock(assert_all_called=False) as router:
        shop = ScriptedShop(url)
        router.route(url__startswith=url).mock(side_effect=shop.answer)
        yield shop


def sizes(raw: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    """Cut bytes into pieces of these lengths, over and over."""
    start = 0
    while start < len(raw):
        for length in lengths:
            yield raw[start : start + length]
            start += length
