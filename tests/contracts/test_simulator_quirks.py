"""Legal oddities of the simulated shop: how it pages, lists and ends sessions; MCP without sessions."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mcp_types import CallToolResult, DiscoverResult, ListToolsResult

from shop_poller.simulator import faults, quirks
from shop_poller.simulator.answers import Answer
from shop_poller.simulator.endpoint import PATH, Endpoint
from shop_poller.simulator.keys import DEMO_PASSWORD
from shop_poller.simulator.listing import Paging
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.simulator.stateless import VERSION
from support.simulated import MCP_ADAPTER, Caller, call

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIST = {"name": "woocommerce-orders-list", "arguments": {"order": "asc"}}
QUERY = {
    "name": "mcp-adapter-execute-ability",
    "arguments": {"ability_name": "woocommerce/orders-query", "parameters": {"order": "asc"}},
}


class Scene:
    """A shop with some orders, and somebody who asks it."""

    def __init__(self, orders: int = 0) -> None:
        self.shop = SimulatedShop(lambda: NOON)
        self.endpoint = Endpoint(self.shop)
        self.caller = Caller(self.endpoint)
        self.ids = [self.shop.create_order(created=NOON + timedelta(seconds=n)) for n in range(orders)]

    def page(self, query: str) -> tuple[list[int], int, int]:
        """The ids of a page, the number of rows and the number of pages that the shop tells."""
        answer = self.caller.rest(f"order=asc&{query}")
        told = (int(answer.headers[name]) for name in ("X-WP-Total", "X-WP-TotalPages"))
        return [order["id"] for order in json.loads(answer.body)], *told  # type: ignore[return-value]

    def mcp(self, params: dict[str, Any], session_id: str | None = None) -> Answer:
        if session_id is None:
            session_id = self.endpoint.sessions.open(self.caller.key.user)
        return self.caller.send(call("tools/call", params), session_id=session_id)


class TestPaging:
    @pytest.mark.parametrize(("counts_as_requested", "pages"), [(False, 4), (True, 1)])
    def test_a_cap_beats_per_page(self, counts_as_requested: bool, pages: int) -> None:  # noqa: FBT001
        scene = Scene(10)
        scene.shop.paging = Paging(cap=3, counts_as_requested=counts_as_requested)
        assert scene.page("per_page=100") == (scene.ids[:3], 10, pages)
        assert scene.page("per_page=100&page=2") == (scene.ids[3:6], 10, pages)
        assert scene.page("per_page=100&page=4") == (scene.ids[9:], 10, pages)
        assert scene.page("per_page=2") == (scene.ids[:2], 10, 5)
        assert scene.caller.ids(per_page=100, order="asc") == scene.ids[:3]
        brief = scene.caller.ability(per_page=100, order="asc")["structuredContent"]["data"]
        assert ([order["id"] for order in brief["orders"]], brief["total_pages"]) == (scene.ids[:3], pages)

    def test_hidden_orders_are_counted(self) -> None:
        scene = Scene(5)
        scene.shop.paging = Paging(hidden=frozenset(scene.ids[1:3]))
        assert scene.page("per_page=3") == (scene.ids[:1], 5, 2)
        assert scene.page("per_page=3&page=2") == (scene.ids[3:], 5, 2)
        assert scene.page(f"include={scene.ids[1]}") == ([], 1, 1)

    def test_a_join_doubles_rows(self) -> None:
        scene = Scene(4)
        scene.shop.paging = Paging(rows_per_order=2)
        first, second, third, fourth = scene.ids
        assert scene.page("per_page=3") == ([first, first, second], 8, 3)
        assert scene.page("per_page=3&page=2") == ([second, third, third], 8, 3)
        assert scene.page(f"per_page=3&exclude={first}") == ([second, second, third], 6, 2)
        assert scene.page("per_page=3&page=3") == ([fourth, fourth], 8, 3)


class TestLenientJson:
    @pytest.mark.parametrize("junk", quirks.JUNK)
    def test_junk_after_good_json(self, junk: str) -> None:
        scene = Scene(2)
        good = scene.caller.rest().body
        scene.endpoint.faults.add(quirks.trailing_junk(junk))
        assert scene.caller.rest().body == good + junk.encode()
        assert scene.mcp(LIST).body.endswith(junk.encode())

    def test_a_list_with_a_gap_is_an_object(self) -> None:
        scene = Scene(3)
        scene.endpoint.faults.add(quirks.orders_as_map())
        assert list(json.loads(scene.caller.rest().body)) == ["0", "2", "3"]
        result = json.loads(scene.mcp(LIST).body)["result"]
        assert list(result["structuredContent"]["data"]) == ["0", "2", "3"]
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        brief = scene.caller.ability()["structuredContent"]["data"]
        assert list(brief["orders"]) == ["0", "2", "3"]
        assert json.loads(scene.caller.rest("include=9").body) == []  # PHP's empty list is a list

    def test_refunds_may_be_an_object_too(self) -> None:
        scene = Scene(1)
        scene.shop.refund(scene.ids[0], 1)
        scene.endpoint.faults.add(quirks.refunds_as_map())
        (order,) = json.loads(scene.caller.rest().body)
        assert list(order["refunds"]) == ["1"]

    def test_what_a_tool_may_return(self) -> None:
        scene = Scene(1)
        shown: dict[str, Any] = {}
        for fault in (
            quirks.structured_list(),
            quirks.structured_empty(),
            quirks.text_only(),
            quirks.list_as_text(),
        ):
            scene.endpoint.faults.add(fault, times=1)
            shown[fault.name] = json.loads(scene.mcp(LIST).body)["result"]
        (order,) = shown["structured list"]["structuredContent"]
        assert order["id"] == scene.ids[0]
        empty = shown["structured content is empty"]
        assert (empty["structuredContent"], json.loads(empty["content"][0]["text"])) == (
            [],
            {"data": [order]},
        )
        assert "structuredContent" not in shown["text only"]
        assert json.loads(shown["text only"]["content"][0]["text"]) == {"data": [order]}
        assert json.loads(shown["list as text"]["content"][0]["text"]) == [order]

    def test_an_id_may_be_echoed_as_text(self) -> None:
        scene = Scene()
        scene.endpoint.faults.add(quirks.id_as_text())
        assert json.loads(scene.mcp(LIST).body)["id"] == "1"

    @pytest.mark.parametrize("value", quirks.ODD_PAID_DATES)
    def test_an_unpaid_order_may_have_an_odd_date_of_payment(self, value: object) -> None:
        scene = Scene(1)
        paid = scene.shop.create_order("processing")
        for order_id in (*scene.ids, paid):
            scene.shop.distort(order_id, quirks.odd_paid_date(value))
        unpaid, good = json.loads(scene.caller.rest("order=asc&orderby=id").body)
        assert unpaid["date_paid_gmt"] == value
        assert good["date_paid_gmt"] == "2026-11-23T12:00:00"

    def test_faults_may_meet(self) -> None:
        scene = Scene(1)
        for fault in (quirks.orders_as_map(), quirks.structured_list(), faults.half_a_body()):
            scene.endpoint.faults.add(fault)
        assert scene.mcp(LIST).status == 200


class TestSessions:
    @pytest.mark.parametrize("shape", quirks.LOST_SESSIONS)
    @pytest.mark.parametrize("adapter", ["0.3.0", "0.5.0"])
    def test_a_lost_session_shows_in_many_ways(self, shape: str, adapter: Any) -> None:
        scene = Scene()
        scene.endpoint.woocommerce_adapter = adapter
        scene.endpoint.faults.add(quirks.sessions_end_with(shape))
        session = scene.caller.send(call("initialize")).headers["Mcp-Session-Id"]
        assert scene.mcp(LIST, session).status == 200
        scene.endpoint.sessions.lose_all()
        answer = scene.mcp(LIST, session)
        assert (answer.status, answer.body) == (int(shape[:3]), quirks.LOST_SESSIONS[shape].body)
        assert scene.caller.send(call("initialize")).status == 200

    def test_a_newer_adapter_may_serve_woocommerce_s_endpoint(self) -> None:
        scene = Scene(1)
        old = json.loads(scene.mcp(LIST).body)
        scene.endpoint.woocommerce_adapter = "0.5.0"
        new = json.loads(scene.mcp(LIST).body)
        assert new["result"] == {**old["result"], "isError": False}
        assert scene.mcp(LIST, "unknown").status == 404


class TestStateless:
    """The revision of 2026-07-28; the SDK's own models read the results."""

    def ask(
        self, scene: Scene, method: str, params: dict[str, Any] | None = None, **headers: str | None
    ) -> Answer:
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = call(method, {"_meta": meta, **(params or {})})
        usual = {"mcp_protocol_version": VERSION, "mcp_method": method}
        if params and "name" in params:
            usual["mcp_name"] = params["name"]
        given = {name: value for name, value in {**usual, **headers}.items() if value is not None}
        path = given.pop("path", PATH)
        return scene.caller.send(body, path=path, **given)

    @pytest.fixture(params=["stateless", "both"])
    def scene(self, request: pytest.FixtureRequest) -> Scene:
        scene = Scene(2)
        scene.endpoint.era = request.param
        return scene

    def test_needs_no_session(self, scene: Scene) -> None:
        answer = self.ask(scene, "tools/call", LIST)
        assert "Mcp-Session-Id" not in answer.headers
        result = json.loads(answer.body)["result"]
        assert result["resultType"] == "complete"
        read = CallToolResult.model_validate(result)
        assert [order["id"] for order in read.structured_content["data"]] == scene.ids
        DiscoverResult.model_validate(json.loads(self.ask(scene, "server/discover").body)["result"])
        tools = ListToolsResult.model_validate(json.loads(self.ask(scene, "tools/list").body)["result"])
        assert "woocommerce-orders-list" in {tool.name for tool in tools.tools}

    def test_abilities_too(self, scene: Scene) -> None:
        answer = self.ask(scene, "tools/call", QUERY, authorization=DEMO_PASSWORD.basic, path=MCP_ADAPTER)
        data = json.loads(answer.body)["result"]["structuredContent"]["data"]
        assert [order["id"] for order in data["orders"]] == scene.ids

    @pytest.mark.parametrize(
        ("params", "headers", "status", "code"),
        [
            (LIST, {"mcp_name": "another"}, 400, -32020),
            (LIST, {"mcp_name": None}, 400, -32020),
            (LIST, {"mcp_method": "tools/list"}, 400, -32020),
            ({**LIST, "name": "nope"}, {}, 400, -32602),
            ({**LIST, "_meta": {}}, {}, 400, -32602),
        ],
    )
    def test_refuses(
        self, scene: Scene, params: dict[str, Any], headers: dict[str, str | None], status: int, code: int
    ) -> None:
        answer = self.ask(scene, "tools/call", params, **headers)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)

    def test_names_the_versions_that_it_speaks(self, scene: Scene) -> None:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2027-01-01",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        answer = self.ask(scene, "tools/list", {"_meta": meta}, mcp_protocol_version="2027-01-01")
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["code"]) == (400, -32022)
        assert error["data"] == {"supported": [VERSION], "requested": "2027-01-01"}

    def test_may_ask_for_a_capability(self, scene: Scene) -> None:
        scene.endpoint.required_capabilities = {"elicitation"}
        answer = self.ask(scene, "tools/list")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, -32021)

    def test_keys_come_first(self, scene: Scene) -> None:
        assert self.ask(scene, "tools/list", x_mcp_api_key="ck:cs").status == 401

    def test_knows_no_handshake_if_it_is_stateless_alone(self) -> None:
        scene = Scene()
        scene.endpoint.era = "stateless"
        answer = scene.caller.send(call("initialize", {"protocolVersion": "2025-11-25"}))
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, -32602)
        answer = self.ask(scene, "initialize")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, -32601)
        for method in ("GET", "DELETE"):
            answer = scene.caller.send(b"", method=method)
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert scene.caller.send(note).status == 202

    def test_both_eras_at_one_address(self) -> None:
        scene = Scene(1)
        scene.endpoint.era = "both"
        session = scene.caller.send(call("initialize")).headers["Mcp-Session-Id"]
        assert scene.mcp(LIST, session).status == 200
        assert self.ask(scene, "tools/call", LIST).status == 200

    def test_an_old_server_refuses_it(self) -> None:
        for adapter in ("0.3.0", "0.5.0"):
            scene = Scene()
            scene.endpoint.woocommerce_adapter = adapter
            answer = self.ask(scene, "tools/call", LIST)
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, -32600)
