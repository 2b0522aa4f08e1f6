"""Both eras of MCP: which one is begun with, how the other is found, and that it is kept to."""

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.model import Query
from shop_poller.sources.woocommerce.dialects import Dialect
from support.mcp_peer import (
    ADDRESSES,
    LISTS,
    STATELESS,
    McpPeer,
    McpSource,
    mcp_peer,
    refused,
    shows_the_order,
    unknown_session,
)
from support.scripted_shop import (
    INITIALIZED,
    Reply,
    SentRequest,
    answer,
    body,
    broken,
    error,
    page,
    recorded,
    scripted_shop,
    tool,
)

pytestmark = pytest.mark.anyio

DIALECTS = (Dialect.WOOCOMMERCE_MCP, Dialect.ABILITIES)


@pytest.fixture(params=DIALECTS)
def peer(request: pytest.FixtureRequest) -> Iterator[McpPeer]:
    with mcp_peer(request.param) as peer:
        yield peer


@pytest.fixture
async def source(peer: McpPeer) -> AsyncIterator[McpSource]:
    source = peer.source()
    yield source
    await source.aclose()


def unsupported(status: int, *versions: str, code: int = -32022, data: bool = True) -> Reply:
    """A refusal of a version, as the specification of 2026-07-28 has it, or the older ones."""

    def reply(requested: SentRequest) -> httpx.Response:
        problem = {"code": code, "message": "Unsupported protocol version"}
        more = {"data": {"supported": list(versions), "requested": "?"}} if data else {}
        text = json.dumps({"jsonrpc": "2.0", "id": requested.json.get("id"), "error": {**problem, **more}})
        return body(text, status=status)(requested)

    return reply


# --- the eras -----------------------------------------------------------------------------------------------

REFUSALS: dict[str, Reply] = {
    "400, -32602 of the official SDK": error(-32602, "params._meta must be an object", 400),
    "400, -32022": unsupported(400, STATELESS),
    "400, -32022 without data": unsupported(400, data=False),
    "200, -32022": unsupported(200, STATELESS),
    "400, -32020": error(-32020, "mcp-method header does not match the request body's method", 400),
    "400, -32600": error(-32600, "Mcp-Method header is missing", 400),
    "400, -32000": error(-32000, "Bad Request", 400),
    "404, -32601": error(-32601, "Method not found: initialize", 404),
    "200, -32601": error(-32601, "Method not found"),
    "200, a code nobody knows": error(4711, "no"),
    "400, nothing": body(b"", status=400),
    "404, a page": page("<h1>Not Found</h1>", 404),
    "405": page("no", 405),
    "406": body(b"", status=406),
    "410": body(b"", status=410),
    "415": body(b"", status=415),
    "400 of WordPress": body('{"code":"mcp_bad_request","message":"?","data":{"status":400}}', status=400),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_server_without_sessions_is_found_out_and_then_costs_one_request_a_question(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    peer.speaks_initialize, peer.speaks_stateless, peer.refusal = False, True, REFUSALS[name]
    assert await shows_the_order(source)
    begun = peer.methods.count("initialize")
    assert begun == (2 if name == "400, -32022 without data" else 1)  # it may mean an older version
    assert peer.methods == ["initialize"] * begun + ["tools/call"]
    peer.requested.clear()
    for _ in range(5):
        assert await shows_the_order(source)
    assert peer.methods == ["tools/call"] * 5
    await source.aclose()
    assert "DELETE" not in peer.methods


@pytest.mark.parametrize("also_stateless", [False, True])
async def test_a_server_with_sessions_costs_nothing_more(
    peer: McpPeer, source: McpSource, *, also_stateless: bool
) -> None:
    peer.speaks_stateless = also_stateless
    for _ in range(3):
        assert await shows_the_order(source)
    assert peer.methods == ["initialize", INITIALIZED, *["tools/call"] * 3]


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_shop_that_is_upgraded_to_the_newer_era_is_read_at_the_same_tick(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    assert await shows_the_order(source)
    peer.speaks_initialize, peer.speaks_stateless, peer.refusal = False, True, REFUSALS[name]
    peer.requested.clear()
    assert await shows_the_order(source)
    assert len(peer.requested) <= 4


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_shop_that_goes_back_to_the_older_era_is_read_at_the_same_tick(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    peer.speaks_initialize, peer.speaks_stateless = False, True
    assert await shows_the_order(source)
    peer.speaks_initialize, peer.speaks_stateless, peer.refusal = True, False, REFUSALS[name]
    peer.forget()
    for _ in range(2):
        assert await shows_the_order(source)
    assert peer.methods == ["tools/call", "initialize", INITIALIZED, "tools/call", "tools/call"]
    await source.aclose()
    assert peer.sessions == set()


async def test_a_server_that_begins_a_session_of_the_newer_era_is_called_without_one(
    peer: McpPeer, source: McpSource
) -> None:
    peer.versions, peer.speaks_stateless = (STATELESS,), True
    assert await shows_the_order(source)
    assert peer.sessions == set()
    peer.requested.clear()
    assert await shows_the_order(source)
    assert peer.methods == ["tools/call"]


@pytest.mark.parametrize("name", REFUSALS)
async def test_where_both_eras_are_refused_the_first_refusal_is_told(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    peer.speaks_initialize, peer.refusal = False, REFUSALS[name]
    for _ in range(2):
        peer.requested.clear()
        problem = await refused(source)
        assert problem.kind in {ErrorKind.NOT_FOUND, ErrorKind.REJECTED, ErrorKind.PROTOCOL}
        assert source.is_refused
        assert len(peer.requested) <= 4
    peer.speaks_initialize = True
    assert await shows_the_order(source)
    assert not source.is_refused


NO_REFUSALS: dict[str, tuple[Reply, ErrorKind]] = {
    "401": (error(-32010, "no", 401), ErrorKind.AUTHENTICATION),
    "401 of WordPress": (
        body('{"code":"authentication_failed","message":"?","data":{"status":401}}', status=401),
        ErrorKind.AUTHENTICATION,
    ),
    "403 of WordPress": (
        body('{"code":"insecure_transport","message":"?","data":{"status":403}}', status=403),
        ErrorKind.AUTHENTICATION,
    ),
    "403, a firewall": (page("<h1>Forbidden</h1>", 403), ErrorKind.PROTOCOL),
    "no route": (
        body('{"code":"rest_no_route","message":"?","data":{"status":404}}', status=404),
        ErrorKind.NOT_FOUND,
    ),
    "a redirect": (page("", 301, location="https://elsewhere.example"), ErrorKind.NOT_FOUND),
    "429": (page("", 429), ErrorKind.RATE_LIMIT),
    "500": (page("", 500), ErrorKind.SERVER),
    "500, -32603": (error(-32603, "?", 500), ErrorKind.SERVER),
    "502": (page("", 502), ErrorKind.UNAVAILABLE),
    "503": (page("", 503), ErrorKind.UNAVAILABLE),
    "a captcha": (page("<h1>Captcha</h1>"), ErrorKind.PROTOCOL),
    "no connection": (broken(httpx.ConnectError("refused")), ErrorKind.CONNECTION),
    "no answer": (broken(httpx.ReadTimeout("")), ErrorKind.TIMEOUT),
}


@pytest.mark.parametrize("name", NO_REFUSALS)
async def test_what_says_nothing_of_the_era_is_told_and_costs_one_request(
    peer: McpPeer, source: McpSource, name: str
) -> None:
    reply, kind = NO_REFUSALS[name]
    peer.speaks_initialize, peer.refusal = False, reply
    assert (await refused(source)).kind is kind
    assert peer.methods == ["initialize"]


@pytest.mark.parametrize("name", NO_REFUSALS)
async def test_an_outage_changes_no_era(peer: McpPeer, source: McpSource, name: str) -> None:
    peer.speaks_initialize, peer.speaks_stateless = False, True
    assert await shows_the_order(source)
    reply, kind = NO_REFUSALS[name]
    peer.speaks_stateless, peer.refusal = False, reply
    peer.requested.clear()
    assert (await refused(source)).kind is kind
    assert peer.methods == ["tools/call"]
    peer.speaks_stateless = True
    peer.requested.clear()
    assert await shows_the_order(source)
    assert peer.methods == ["tools/call"]


@pytest.mark.parametrize("session", [True, False], ids=["with a session", "without"])
@pytest.mark.parametrize("code", [-32020, -32021, -32022])
@pytest.mark.parametrize("status", [400, 200])
async def test_a_server_that_answers_initialize_but_takes_calls_of_the_newer_era_only_is_found_out(
    peer: McpPeer, source: McpSource, code: int, status: int, *, session: bool
) -> None:
    def polite(requested: SentRequest) -> Reply:
        if requested.method == "initialize":
            headers = {"mcp-session-id": "session-1"} if session else {}
            return answer({"protocolVersion": "2025-11-25"}, headers=headers)
        return peer.notified if requested.method == INITIALIZED else error(code, "no", status)

    peer.answer_in_session = polite  # type: ignore[method-assign]
    peer.speaks_stateless = True
    assert await shows_the_order(source)
    peer.requested.clear()
    assert await shows_the_order(source)
    assert peer.methods == ["tools/call"]


async def test_wrong_keys_in_the_other_era_are_told(peer: McpPeer, source: McpSource) -> None:
    keys = error(-32010, "no such key", 401)
    peer.speaks_initialize = False
    peer.refusal = lambda requested: (keys if requested.method == "tools/call" else REFUSALS["405"])(
        requested
    )
    assert (await refused(source)).kind is ErrorKind.AUTHENTICATION


async def test_tools_are_listed_page_by_page_in_the_newer_era_too(peer: McpPeer, source: McpSource) -> None:
    peer.speaks_initialize, peer.speaks_stateless = False, True
    assert await source.offered()
    assert peer.methods == ["initialize", "tools/list"]


@pytest.mark.parametrize(("code", "words"), [(-32020, "header"), (-32021, "capability"), (-32022, "version")])
async def test_the_newer_eras_own_errors_are_told_in_their_words(
    peer: McpPeer, source: McpSource, code: int, words: str
) -> None:
    peer.speaks_initialize, peer.speaks_stateless = False, True
    assert await shows_the_order(source)
    peer.call = error(code, f"no such {words}", 400)
    problem = await refused(source)
    assert isinstance(problem, PermanentError)
    assert problem.kind is ErrorKind.REJECTED
    assert words in str(problem)


async def test_a_tool_that_asks_for_input_is_an_error(peer: McpPeer, source: McpSource) -> None:
    peer.speaks_initialize, peer.speaks_stateless = False, True
    peer.call = answer({"resultType": "input_required", "inputRequests": {}})
    problem = await refused(source)
    assert problem.kind is ErrorKind.REJECTED
    assert "asks for input" in str(problem)


@pytest.mark.parametrize("result_type", ["complete", None, "partial", 7])
async def test_any_other_type_of_a_result_is_read_by_its_content(
    peer: McpPeer, source: McpSource, result_type: object
) -> None:
    content = LISTS[peer.dialect]
    peer.call = answer({"structuredContent": content, "content": [], "resultType": result_type})
    assert await shows_the_order(source)


# --- versions of the older era ------------------------------------------------------------------------------


async def test_the_newest_version_of_the_older_era_is_proposed_and_the_negotiated_one_spoken(
    peer: McpPeer, source: McpSource
) -> None:
    peer.versions = ("2025-06-18", "2024-11-05")
    assert await shows_the_order(source)
    assert peer.requested[0].json["params"]["protocolVersion"] == "2025-11-25"
    spoken = {requested.request.headers["mcp-protocol-version"] for requested in peer.requested[1:]}
    assert spoken == {"2025-06-18"}


@pytest.mark.parametrize("spoken", ["2025-06-18", "2025-03-26", "2024-11-05"])
@pytest.mark.parametrize(
    "refusal",
    [
        lambda v: unsupported(400, v),
        lambda v: unsupported(200, v, code=-32602),
        lambda v: error(
            -32600, f"Unsupported protocol version: x (supported versions: {v}, 1999-01-01)", 400
        ),
    ],
    ids=["-32022", "-32602 with data", "in words"],
)
async def test_a_server_that_refuses_the_version_is_offered_one_that_it_names_and_that_is_remembered(
    peer: McpPeer, source: McpSource, spoken: str, refusal: object
) -> None:
    assert callable(refusal)
    refuse: Reply = refusal(spoken)
    usual = peer.answer_in_session

    def strict(requested: SentRequest) -> Reply:
        begins = requested.method == "initialize"
        return (
            refuse if begins and requested.json["params"]["protocolVersion"] != spoken else usual(requested)
        )

    peer.answer_in_session = strict  # type: ignore[method-assign]
    peer.versions = (spoken,)
    assert await shows_the_order(source)
    assert peer.methods == ["initialize", "initialize", INITIALIZED, "tools/call"]
    peer.forget()
    assert await shows_the_order(source)
    assert peer.methods == ["tools/call", "initialize", INITIALIZED, "tools/call"]


async def test_a_server_of_versions_to_come_is_named(peer: McpPeer, source: McpSource) -> None:
    peer.speaks_initialize, peer.refusal = False, unsupported(400, "2031-01-01")
    problem = await refused(source)
    assert isinstance(problem, PermanentError)
    assert "2031-01-01" in str(problem)


# --- the recorded adapters ----------------------------------------------------------------------------------

ADAPTERS = [
    (dialect, adapter, version)
    for dialect in DIALECTS
    for adapter, version in (("0.3.0-bundled", "2025-06-18"), ("0.5.0plus", "2025-11-25"))
]


def source_of(dialect: Dialect) -> McpSource:
    return McpPeer(dialect).source()


@pytest.mark.parametrize(("dialect", "adapter", "version"), ADAPTERS)
async def test_a_recorded_adapter_is_spoken_to_in_the_version_that_it_answers(
    dialect: Dialect, adapter: str, version: str
) -> None:
    name = f"2026-11/adapter-{adapter}-{dialect}"
    with scripted_shop(ADDRESSES[dialect]) as shop:
        shop.on("initialize", recorded(f"{name}-initialize-2025-11-25"))
        shop.on_call(recorded(f"{name}-call-ok"))
        source = source_of(dialect)
        try:
            items = (await source.fetch(Query(per_page=1))).items
            assert [item.id for item in items] == [66]
            assert shop.requested[0].json["params"]["protocolVersion"] == "2025-11-25"
            assert shop.calls[0].request.headers["mcp-protocol-version"] == version
            shop.on_call(recorded(f"{name}-unknown-session"), recorded(f"{name}-call-ok"))
            assert len((await source.fetch(Query(per_page=1))).items) == 1
            shop.on_call(recorded(f"{name}-no-session"), recorded(f"{name}-call-ok"))
            assert len((await source.fetch(Query(per_page=1))).items) == 1
            assert shop.methods.count("initialize") == 3
            shop.on_call(recorded(f"{name}-unknown-tool"))
            assert (await refused(source)).kind is ErrorKind.NOT_FOUND
            shop.on_call(recorded(f"{name}-wrong-key"))
            assert (await refused(source)).kind is ErrorKind.AUTHENTICATION
        finally:
            await source.aclose()


@pytest.mark.parametrize(("dialect", "adapter", "version"), ADAPTERS)
async def test_a_recorded_adapter_that_takes_the_place_of_a_newer_one_is_found_out(
    dialect: Dialect, adapter: str, version: str
) -> None:
    """It was asked without a session before: it refuses that, by its session or by the version."""
    name = f"2026-11/adapter-{adapter}-{dialect}"
    with mcp_peer(dialect, speaks_initialize=False, speaks_stateless=True) as peer:
        source = peer.source()
        assert await shows_the_order(source)
        peer.speaks_stateless = False
        peer.refusal = recorded(f"{name}-no-session")
        if adapter == "0.5.0plus":
            peer.refusal = recorded(f"{name}-call-unsupported-version")
        peer.speaks_initialize, peer.versions, peer.lost = True, (version,), unknown_session
        assert await shows_the_order(source)
        await source.aclose()


async def test_the_content_may_be_text_only_in_the_newer_era(peer: McpPeer, source: McpSource) -> None:
    peer.speaks_initialize, peer.speaks_stateless = False, True

    def call(requested: SentRequest) -> httpx.Response:
        result = tool(LISTS[peer.dialect])(requested).json()["result"]
        return answer({"content": result["content"], "resultType": "complete"})(requested)

    peer.call = call
    assert await shows_the_order(source)
