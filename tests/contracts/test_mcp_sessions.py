"""A session that is lost, however the server says so: one new one, one repeat, within the same question."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.jsonrpc import answers
from support.mcp_peer import McpPeer, McpSource, mcp_peer, refused, shows_the_order
from support.scripted_shop import INITIALIZED, Reply, SentRequest, answer, body, error, events, page

pytestmark = pytest.mark.anyio

CASES = Path(__file__).parent.parent / "data" / "cases"


@pytest.fixture(params=[Dialect.WOOCOMMERCE_MCP, Dialect.ABILITIES])
def peer(request: pytest.FixtureRequest) -> Iterator[McpPeer]:
    with mcp_peer(request.param) as peer:
        yield peer


@pytest.fixture
async def source(peer: McpPeer) -> AsyncIterator[McpSource]:
    source = peer.source()
    yield source
    await source.aclose()


def recorded_case(name: str) -> Reply:
    head, _, content = (CASES / name).read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    start, *lines = head.decode().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return lambda _: httpx.Response(int(start.split()[1]), content=content.strip(), headers=headers)


def wordpress(code: str, status: int, *, http: int | None = None) -> Reply:
    text = json.dumps({"code": code, "message": "Нельзя", "data": {"status": status}})
    return body(text, status=http or status)


def says(text: str) -> Reply:
    return answer({"content": [{"type": "text", "text": text}], "isError": True})


LOSSES: dict[str, Reply] = {
    "case a: 404, -32001": recorded_case("mcp-session-404/answer_a.http"),
    "case b: 404, words": recorded_case("mcp-session-404/answer_b.http"),
    "case c: 404, nothing": recorded_case("mcp-session-404/answer_c.http"),
    "404, -32005": error(-32005, "Session not found", 404),
    "404, -32601": error(-32601, "Сессия не найдена", 404),
    "404, -32003": error(-32003, "gone", 404),
    "404, a code nobody knows": error(4711, "?", 404),
    "404, a page": page("<h1>Not Found</h1>", 404),
    "404 of WordPress": wordpress("rest_no_route", 404),
    "404 of WordPress in a 200": wordpress("mcp_no_session", 404, http=200),
    "400, nothing": body(b"", status=400),
    "400, a page": page("<h1>400 Bad Request</h1>", 400),
    "400, -32000 of a server in TypeScript": error(-32000, "Bad Request: No valid session ID provided", 400),
    "400, -32600": error(-32600, "Invalid Request", 400),
    "400, -32700": error(-32700, "?", 400),
    "400 of WordPress": wordpress("rest_invalid_param", 400),
    "410, nothing": body(b"", status=410),
    "403 of WordPress": wordpress("mcp_foreign_session", 403),
    "401 that names the session": error(-32099, "Session expired", 401),
    "401, a page that names the session": page("<p>Your session has expired</p>", 401),
    "422 that names the session": body('{"detail": "unknown session"}', status=422),
    "500 that names the session": error(-32603, "Internal error: session not found", 500),
    "200, -32602": error(-32602, "Invalid params: Invalid or expired session"),
    "200, -32005": error(-32005, "gone"),
    "200, -32600": error(-32600, "?"),
    "200, -32001": error(-32001, "?"),
    "200, -32002 of a server that was restarted": error(-32002, "Server not initialized"),
    "200, words of a tool": says("Invalid or expired session"),
    "an event": events(b'data: {"jsonrpc":"2.0","id":%d,"error":{"code":-32005,"message":"?"}}\n\n'),
    "an event without an id": events(b'data: {"jsonrpc":"2.0","error":{"code":-32600,"message":"?"}}\n\n'),
}


@pytest.mark.parametrize("name", LOSSES)
async def test_a_lost_session_is_replaced_and_the_call_repeated_once(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    assert await shows_the_order(source)
    peer.lost = LOSSES[name]
    for n in range(2, 5):
        peer.forget()
        assert await shows_the_order(source)
        assert peer.methods == ["tools/call", "initialize", INITIALIZED, "tools/call"]
        new = f"session-{n}"
        assert [requested.session for requested in peer.requested] == [f"session-{n - 1}", None, new, new]
        assert peer.sessions == {new}
        peer.requested.clear()
        assert await shows_the_order(source)
        assert peer.methods == ["tools/call"]
    await source.aclose()
    assert peer.sessions == set()


NO_SIGN: dict[str, Reply] = {
    "200, nothing": body(b""),
    "202, nothing": body(b"", status=202),
    "204": body(b"", status=204),
    "200, null": body(b"null"),
    "200, {}": body(b"{}"),
    "200, a page": page("<h1>Log in</h1>", 200),
    "200, no event": events(),
    "200, -32603": error(-32603, "Internal error"),
    "401, nothing": body(b"", status=401),
    "500, nothing": body(b"", status=500),
    "500, -32603": error(-32603, "Internal error", 500),
    "502": page("<h1>Bad Gateway</h1>", 502),
    "503": page("", 503),
    "to the page to sign in": page("", 302, location="/wp-login.php"),
}


@pytest.mark.parametrize("name", NO_SIGN)
async def test_a_session_that_is_lost_without_a_sign_is_given_up_after_two_failures(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    assert await shows_the_order(source)
    peer.lost = NO_SIGN[name]
    for _ in range(2):
        peer.forget()
        await refused(source)
        await refused(source)
        assert await shows_the_order(source)
        assert len(peer.sessions) == 1
    await source.aclose()
    assert peer.sessions == set()


async def test_failures_that_a_good_answer_parts_end_no_session(peer: McpPeer, source: McpSource) -> None:
    assert await shows_the_order(source)
    session = set(peer.sessions)
    for _ in range(3):
        peer.call = page("", 500)
        await refused(source)
        peer.call = None
        assert await shows_the_order(source)
    assert peer.sessions == session


@pytest.mark.parametrize("name", LOSSES)
async def test_a_shop_that_forgets_every_session_costs_a_bounded_number_of_requests(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    assert await shows_the_order(source)
    lost = LOSSES[name]
    peer.call = lost
    for _ in range(3):
        peer.requested.clear()
        await refused(source)
        assert peer.methods.count("initialize") <= 2 + 2  # twice where it may be about `_fields`
        assert len(peer.requested) <= 14
        assert len(peer.sessions) <= 1  # none is left behind at every tick
    peer.call = None
    assert await shows_the_order(source)


async def test_a_session_that_is_lost_again_at_the_repeat_is_replaced_at_the_next_question(
    peer: McpPeer, source: McpSource
) -> None:
    assert await shows_the_order(source)
    lost_times = 2

    def call(requested: SentRequest) -> httpx.Response:
        nonlocal lost_times
        lost_times -= 1
        if lost_times >= 0:
            peer.sessions.discard(requested.session or "")
            return body(b"", status=404)(requested)
        peer.call = None
        peer.requested.pop()
        return peer.answer(requested.request)

    peer.call = call
    assert (await refused(source)).kind is ErrorKind.NOT_FOUND
    assert await shows_the_order(source)
    assert len(peer.sessions) == 1


@pytest.mark.parametrize(
    "reply", [body(b"", status=404), error(-32005, "?", 404), body(b"", status=400), page("no", 500)]
)
async def test_what_is_answered_to_the_notification_does_not_matter(
    peer: McpPeer, source: McpSource, reply: Reply
) -> None:
    peer.notified = reply
    assert await shows_the_order(source)
    peer.forget()
    assert await shows_the_order(source)
    assert peer.methods == ["tools/call", "initialize", INITIALIZED, "tools/call"]


UNKNOWN_TOOLS: dict[str, Reply] = {
    "404, -32003": error(-32003, "Tool not found: orders", 404),
    "404, -32601": error(-32601, "Method not found", 404),
    "200, -32601": error(-32601, "Method not found"),
    "200, -32602": error(-32602, "Unknown tool: orders"),
    "400, -32602": error(-32602, "Unknown tool: orders", 400),
    "404, a page": page("<h1>Not Found</h1>", 404),
}


@pytest.mark.parametrize("name", UNKNOWN_TOOLS)
async def test_an_unknown_tool_is_no_endless_loop_and_no_leak(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    assert await shows_the_order(source)
    peer.call = UNKNOWN_TOOLS[name]
    for _ in range(4):
        peer.requested.clear()
        error = await refused(source)
        if "-32602" not in name:  # the tools that the peer lists have it
            assert isinstance(error, PermanentError)
            assert error.kind is ErrorKind.NOT_FOUND
        assert peer.methods.count("tools/call") <= 2
        assert peer.methods.count("initialize") <= 2
        assert len(peer.sessions) <= 1
    await source.aclose()
    assert peer.sessions == set()


@pytest.mark.parametrize(
    "reply", [page("<h1>Not Found</h1>", 404), body(b"", status=404), error(-32001, "?", 404)]
)
async def test_a_404_to_a_call_without_a_session_is_no_lost_session(
    peer: McpPeer, source: McpSource, reply: Reply
) -> None:
    def call(requested: SentRequest) -> httpx.Response:
        return (
            answer({"protocolVersion": "2025-06-18"})(requested)
            if requested.method == "initialize"
            else reply(requested)
        )

    peer.speaks_initialize, peer.refusal = False, call
    error = await refused(source)
    assert isinstance(error, PermanentError)
    assert error.kind is ErrorKind.NOT_FOUND
    assert peer.methods == ["initialize", INITIALIZED, "tools/call"]


@pytest.mark.parametrize("status", [401, 403])
async def test_revoked_keys_are_told_at_once_and_not_taken_for_a_lost_session(
    peer: McpPeer, source: McpSource, status: int
) -> None:
    assert await shows_the_order(source)
    peer.requested.clear()
    peer.speaks_initialize, peer.refusal = False, wordpress("authentication_failed", status)
    error = await refused(source)
    assert isinstance(error, PermanentError)
    assert error.kind is ErrorKind.AUTHENTICATION
    assert peer.methods == (["tools/call"] if status == 401 else ["tools/call", "initialize"])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (page("", 503, **{"retry-after": "60"}), ErrorKind.UNAVAILABLE),
        (error(-32000, "session not found", 503), ErrorKind.UNAVAILABLE),
        (page("session", 429), ErrorKind.RATE_LIMIT),
        (page("<h1>session</h1>", 502), ErrorKind.UNAVAILABLE),
        (page("session", 500), ErrorKind.SERVER),
        (page("session", 408), ErrorKind.TIMEOUT),
    ],
)
async def test_an_outage_is_no_lost_session(
    peer: McpPeer, source: McpSource, reply: Reply, kind: ErrorKind
) -> None:
    assert await shows_the_order(source)
    peer.requested.clear()
    peer.call = reply
    assert (await refused(source)).kind is kind
    assert peer.methods == ["tools/call"]
    peer.call = None
    assert await shows_the_order(source)
    assert peer.methods == ["tools/call", "tools/call"]


# --- the id that is echoed ----------------------------------------------------------------------------------


def echoes(requested: SentRequest, peer: McpPeer, **fields: Any) -> httpx.Response:
    peer.call = None
    peer.requested.pop()
    message = peer.answer(requested.request).json()
    del message["id"]
    return body(json.dumps({**message, **fields}))(requested)


ECHOES: dict[str, Callable[[int], object]] = {
    "text": str,
    "float": float,
    "text of a float": lambda n: f"{n}.0",
    "text with blanks": lambda n: f" {n} ",
    "null": lambda _: None,
    "number": int,
}


@pytest.mark.parametrize("name", ECHOES)
async def test_an_id_may_be_echoed_in_another_spelling(peer: McpPeer, source: McpSource, name: str) -> None:
    assert await shows_the_order(source)
    peer.call = lambda requested: echoes(requested, peer, id=ECHOES[name](requested.json["id"]))
    assert await shows_the_order(source)


async def test_an_id_may_be_left_out(peer: McpPeer, source: McpSource) -> None:
    peer.call = lambda requested: echoes(requested, peer)
    assert await shows_the_order(source)


WRONG: dict[str, Callable[[int], object]] = {
    "next": lambda n: n + 1,
    "text of the last": lambda n: str(n - 1),
    "half": lambda n: n + 0.5,
    "text of a half": lambda n: f"{n}.5",
    "a word": lambda _: "x",
    "a list": lambda n: [n],
    "an object": lambda n: {"id": n},
    "negative": lambda n: f"-{n}",
    "ten times": lambda n: f"{n}0",
    "no text": lambda _: "",
    "false": lambda _: False,
    "true": lambda _: True,
}


@pytest.mark.parametrize("name", WRONG)
async def test_the_id_of_another_call_is_an_error(peer: McpPeer, source: McpSource, name: str) -> None:
    """A cache repeats an old answer."""
    assert await shows_the_order(source)
    peer.call = lambda requested: echoes(requested, peer, id=WRONG[name](requested.json["id"]))
    error = await refused(source)
    assert error.kind is ErrorKind.PROTOCOL
    assert "another question" in str(error)
    assert await shows_the_order(source)


def test_the_recorded_answer_with_a_text_for_an_id_is_ours() -> None:
    message = json.loads((CASES / "string-id-echoed" / "answer.json").read_text())
    assert answers(message, 3)
    assert not answers(message, 4)


@pytest.mark.parametrize("echoed", [b'"%d"', b"%d.0", b"null"])
async def test_an_event_may_echo_it_in_another_spelling(
    peer: McpPeer, source: McpSource, echoed: bytes
) -> None:
    assert await shows_the_order(source)

    def call(requested: SentRequest) -> httpx.Response:
        peer.call = None
        peer.requested.pop()
        result = json.dumps(peer.answer(requested.request).json()["result"]).encode().replace(b"%", b"%%")
        another = b'data: {"jsonrpc":"2.0","id":9999,"result":{}}\n\n'
        progress = b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n'
        ours = b'data: {"jsonrpc":"2.0","id":' + echoed + b',"result":' + result + b"}\n\n"
        return events(progress, another, ours)(requested)

    peer.call = call
    assert await shows_the_order(source)
