"""The simulated shop on a socket: what only a network shows, and a client that is not ours."""

import socket
from datetime import UTC, datetime

import anyio
import httpx
import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from shop_poller.simulator import faults
from shop_poller.simulator.asgi import MAX_BODY_BYTES
from support.simulated import RunningShop, call, running_shop, shop_in_thread

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _client(running: RunningShop) -> httpx.AsyncClient:
    return httpx.AsyncClient(headers={"X-MCP-API-Key": running.key.header})


async def test_sends_one_date_and_one_server() -> None:
    async with running_shop(lambda: NOON) as running, _client(running) as client:
        answer = await client.post(running.url, json=call("initialize"))
    assert answer.status_code == 200
    assert answer.headers.get_list("date") == ["Mon, 23 Nov 2026 12:00:00 GMT"]
    assert len(answer.headers.get_list("server")) == 1


async def test_remembers_what_arrived() -> None:
    async with running_shop() as running, _client(running) as client:
        opened = await client.post(running.url, json=call("initialize"))
        client.headers["Mcp-Session-Id"] = opened.headers["Mcp-Session-Id"]
        listing = {"name": "woocommerce-orders-list", "arguments": {"per_page": 5}}
        await client.post(running.url, json=call("tools/call", listing))
        await client.delete(running.url)
    assert [(request.method, request.status) for request in running.requests] == [
        ("initialize", 200),
        ("tools/call", 200),
        ("DELETE", 200),
    ]
    assert running.listings == [{"per_page": 5}]
    assert running.count("tools/call") == 1


@pytest.mark.parametrize(
    ("after_bytes", "message"), [(0, "without sending a response"), (20, "received 20 bytes")]
)
async def test_drops_the_connection(after_bytes: int, message: str) -> None:
    async with running_shop() as running, _client(running) as client:
        running.faults.add(faults.dropped(after_bytes), times=1)
        with pytest.raises(httpx.RemoteProtocolError, match=message):
            await client.post(running.url, json=call("initialize"))
        assert (await client.post(running.url, json=call("initialize"))).status_code == 200


async def test_keeps_one_waiting_and_does_not_mind_if_one_leaves() -> None:
    async with running_shop() as running, _client(running) as client:
        running.faults.add(faults.slow(3600), times=1)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(running.url, json=call("initialize"), timeout=0.05)
        with anyio.fail_after(5):
            answer = await client.post(running.url, json=call("initialize"))
        assert answer.status_code == 200


async def test_refuses_a_huge_body() -> None:
    async with running_shop() as running, _client(running) as client:
        huge = b" " * (MAX_BODY_BYTES + 1)
        answer = await client.post(running.url, content=huge)
        assert (answer.status_code, "date" in answer.headers) == (413, True)
        # Nothing but the endpoint is there.
        assert (await client.get(running.shop.url)).json()["code"] == "rest_no_route"
        # The old design's path, and the one that a shop without pretty links has.
        old = await client.post(f"{running.url}/execute", json={})
        assert (old.status_code, old.json()["code"]) == (404, "rest_no_route")
        plain = f"{running.shop.url}/index.php?rest_route=/woocommerce/mcp"
        assert (await client.post(plain, json=call("initialize"))).status_code == 200


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with running_shop():
            raise KeyError


def test_serves_from_a_thread_and_frees_the_port() -> None:
    with shop_in_thread() as running:
        port = httpx.URL(running.url).port
        running.shop.create_order()
        assert httpx.get(running.url).json()["code"] == "missing_api_key"
        assert running.count("GET") == 1
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_the_official_sdk_understands_it() -> None:
    async with running_shop() as running:
        order_id = running.shop.create_order("processing")
        headers = {"X-MCP-API-Key": running.key.header}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            streamable_http_client(running.url, http_client=http) as (read, write),
            ClientSession(read, write) as session,
        ):
            welcome = await session.initialize()
            tools = await session.list_tools()
            result = await session.call_tool("woocommerce-orders-list", {"per_page": 1})
    assert welcome.server_info.name == "WooCommerce MCP Server"
    assert "woocommerce-orders-list" in [tool.name for tool in tools.tools]
    assert result.structured_content is not None
    assert [order["id"] for order in result.structured_content["data"]] == [order_id]
    assert running.requests[-1].method == "DELETE"


async def test_the_official_sdk_understands_the_mcp_adapter_too() -> None:
    async with running_shop() as running:
        order_id = running.shop.create_order("processing")
        url = running.endpoint.address("abilities")
        async with (
            httpx2.AsyncClient(headers={"Authorization": running.password.basic}) as http,
            streamable_http_client(url, http_client=http) as (read, write),
            ClientSession(read, write) as session,
        ):
            welcome = await session.initialize()
            tools = await session.list_tools()
            requested = {"ability_name": "woocommerce/orders-query", "parameters": {"per_page": 1}}
            result = await session.call_tool("mcp-adapter-execute-ability", requested)
    assert welcome.server_info.name == "MCP Adapter Default Server"
    assert "mcp-adapter-execute-ability" in [tool.name for tool in tools.tools]
    assert result.structured_content is not None
    assert [order["id"] for order in result.structured_content["data"]["orders"]] == [order_id]
    assert running.listings == [{"per_page": 1}]


async def test_a_query_and_a_body_arrive_as_they_were_sent() -> None:
    async with running_shop() as running, _client(running) as client:
        first, second = (running.shop.create_order("processing") for _ in range(2))
        running.endpoint.offers = {"rest", "execute"}
        client.headers["Authorization"] = running.key.basic
        requested = {"status": "processing,sborka", "modified_after": "2026-01-01T00:00:00+03:00"}
        orders = running.endpoint.address("rest")
        listed = await client.get(orders, params={**requested, "exclude[]": [first]})
        override = {"X-HTTP-Method-Override": "GET"}
        posted = await client.post(orders, json={"exclude": [second]}, headers=override)
        bridge = await client.post(f"{running.shop.url}/execute", json={"ability": "woocommerce/orders-list"})
    assert [order["id"] for order in listed.json()] == [second]
    assert [order["id"] for order in posted.json()] == [first]
    assert [order["id"] for order in bridge.json()["data"]] == [second, first]
    assert [request.dialect for request in running.requests] == ["rest", "rest", "execute"]
    assert running.listings == [{**requested, "exclude[]": str(first)}, {"exclude": [second]}, {}]
