"""The simulated shop's other dialects against what is known of them beyond the recordings."""

import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_PASSWORD, ApiKey, AppPassword
from shop_poller.simulator.routes import SimulatedDialect
from shop_poller.simulator.shop import NoSuchOrderError, SimulatedShop
from shop_poller.simulator.webhooks import delivery
from support.simulated import MCP_ADAPTER, ORDERS, Caller, call

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Scene:
    """A shop in Moscow at noon UTC that has all four dialects, and somebody who asks it."""

    def __init__(self) -> None:
        self.now = NOON
        self.shop = SimulatedShop(lambda: self.now)
        self.endpoint = Endpoint(self.shop, offers=SimulatedDialect)
        self.caller = Caller(self.endpoint)

    def order(self, status: str = "pending", *, s: int = 0) -> int:
        """An order modified so many seconds after noon."""
        return self.shop.create_order(status, created=NOON + timedelta(seconds=s))

    def queried(self, **parameters: object) -> list[int]:
        """The ids that the ability answers with."""
        data = self.caller.ability(**parameters)["structuredContent"]["data"]
        return [order["id"] for order in data["orders"]]

    def listed(self, query: str = "") -> list[int]:
        """The ids that the REST API answers with."""
        return _ids(self.caller.rest(query))

    def ask(self, dialect: str) -> Answer:
        """A listing in a dialect, as HTTP brings it."""
        match SimulatedDialect(dialect):
            case SimulatedDialect.REST:
                return self.caller.rest()
            case SimulatedDialect.EXECUTE:
                return self.caller.execute()
            case SimulatedDialect.ABILITIES:
                session_id = self.endpoint.sessions.open(DEMO_PASSWORD.user)
                return self.caller.plugin(QUERY, mcp_session_id=session_id)
            case _:
                session_id = self.endpoint.sessions.open(self.caller.key.user)
                return self.caller.send(LIST, session_id=session_id)


LIST = call("tools/call", {"name": "woocommerce-orders-list", "arguments": {}})
QUERY = call(
    "tools/call",
    {
        "name": "mcp-adapter-execute-ability",
        "arguments": {"ability_name": "woocommerce/orders-query", "parameters": {}},
    },
)


def _ids(answer: Answer) -> list[int]:
    assert answer.status == 200, answer.body
    data = json.loads(answer.body)
    return [order["id"] for order in (data["data"] if isinstance(data, dict) else data)]


def _error(answer: Answer) -> tuple[int, Any]:
    """The status and the code: WordPress's is a word, JSON-RPC's a number."""
    data = json.loads(answer.body)
    return answer.status, data.get("error", data)["code"]


def _text(result: Any) -> str:
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestOffers:
    @pytest.mark.parametrize("dialect", SimulatedDialect)
    def test_a_dialect_comes_and_goes_overnight(self, scene: Scene, dialect: str) -> None:
        assert scene.ask(dialect).status == 200
        scene.endpoint.offers.discard(dialect)
        assert _error(scene.ask(dialect)) == (404, "rest_no_route")
        others = set(SimulatedDialect) - {dialect}
        assert {other: scene.ask(other).status for other in others} == dict.fromkeys(others, 200)
        scene.endpoint.offers = {dialect}
        assert scene.ask(dialect).status == 200

    def test_no_real_shop_has_the_bridge(self) -> None:
        endpoint = Endpoint(SimulatedShop(lambda: NOON))
        assert endpoint.offers == {"woocommerce-mcp", "abilities", "rest"}

    @pytest.mark.parametrize("dialect", SimulatedDialect)
    def test_answers_by_either_kind_of_permalink(self, scene: Scene, dialect: str) -> None:
        pretty = scene.endpoint.address(dialect)
        scene.shop.plain_permalinks = True
        path, _, query = scene.endpoint.address(dialect).removeprefix(scene.shop.url).partition("?")
        assert query.startswith("rest_route=/")
        for where in ({"path": pretty.removeprefix(scene.shop.url)}, {"path": path, "query": query}):
            answer = scene.caller.send(call("ping"), **where, x_mcp_api_key="", authorization="")
            assert answer.status == 401

    def test_a_server_may_lose_its_tool(self, scene: Scene) -> None:
        scene.endpoint.lost_tools = {"woocommerce-orders-list", "mcp-adapter-execute-ability"}
        for dialect in ("woocommerce-mcp", "abilities"):
            assert _error(scene.ask(dialect)) == (404, -32003)
        tools = [tool["name"] for tool in scene.caller.rpc("tools/list")["tools"]]
        assert "woocommerce-orders-get" in tools
        assert "woocommerce-orders-list" not in tools

    def test_a_site_may_lose_its_ability(self, scene: Scene) -> None:
        scene.endpoint.lost_tools.add("woocommerce/orders-query")
        assert _text(scene.caller.ability()) == "Ability 'woocommerce/orders-query' not found"

    def test_an_address_may_be_too_long_for_the_web_server(self, scene: Scene) -> None:
        order = scene.order()
        assert scene.listed("exclude=" + "9," * 3_900) == [order]
        assert scene.caller.rest("exclude=" + "9," * 4_100).status == 414
        assert _ids(scene.caller.rest_post({"exclude": [999_999] * 4_100})) == [order]

    def test_a_shop_may_change_its_time_zone(self, scene: Scene) -> None:
        order = scene.order(s=1)
        noon = "2026-11-23T12:00:00"
        for zone, hour in (("Europe/Moscow", 15), ("Asia/Vladivostok", 22)):
            scene.shop.zone = ZoneInfo(zone)
            local = f"2026-11-23T{hour}:00:01"
            (shown,) = json.loads(scene.caller.rest().body)
            (brief,) = scene.caller.ability()["structuredContent"]["data"]["orders"]
            assert shown["date_modified"] == brief["date_modified"] == local
            # One second before it, by the shop's own clock, and at it.
            before = f"2026-11-23T{hour}:00:00"
            assert scene.listed(f"modified_after={before}") == scene.queried(modified_after=before) == [order]
            assert scene.listed(f"modified_after={local}") == scene.queried(modified_after=local) == []
            assert scene.listed(f"modified_after={noon}&dates_are_gmt=1") == [order]


class TestAbilities:
    def test_both_bounds_are_exclusive(self, scene: Scene) -> None:
        _, second, _ = (scene.order(s=s) for s in (1, 2, 3))
        after, before = "2026-11-23T12:00:01Z", "2026-11-23T12:00:03Z"
        assert scene.queried(modified_after=after, modified_before=before) == [second]

    def test_of_both_bounds_of_creation_only_the_lower_is_exclusive(self, scene: Scene) -> None:
        first, second, third = (scene.order(s=s) for s in (1, 2, 3))
        after, before = "2026-11-23T12:00:01", "2026-11-23T12:00:03"
        assert scene.queried(date_after=after, date_before=before, order="asc") == [second, third]
        assert scene.queried(date_after=after, order="asc") == [second, third]
        assert scene.queried(date_before=before, order="asc") == [first, second]

    @pytest.mark.parametrize(
        ("text", "zone", "requested_from_utc"),
        [
            ("2026-11-23T12:00:00", "Europe/Moscow", 12),  # a time without a zone is UTC
            ("2026-11-23T12:00:00Z", "Europe/Moscow", 15),  # with one it is off by the shop's offset
            ("2026-11-23T12:00:00+03:00", "Europe/Moscow", 12),
            ("2026-11-23T12:00:00", "America/New_York", 12),
            ("2026-11-23T12:00:00Z", "America/New_York", 7),
            ("2026-11-23T12:00:00Z", "UTC", 12),
        ],
    )
    def test_what_a_time_of_creation_means(
        self, scene: Scene, text: str, zone: str, requested_from_utc: int
    ) -> None:
        scene.shop.zone = ZoneInfo(zone)
        hours = range(6, 18)
        for hour in hours:
            scene.shop.create_order(order_id=hour, created=NOON.replace(hour=hour) + timedelta(seconds=1))
        ids = scene.queried(date_after=text, orderby="id", order="asc", per_page=100)
        assert ids == [hour for hour in hours if hour >= requested_from_utc]
        ids = scene.queried(date_before=text, orderby="id", order="asc", per_page=100)
        assert ids == [hour for hour in hours if hour < requested_from_utc]

    def test_a_deleted_order_is_not_found(self, scene: Scene) -> None:
        order = scene.order()
        scene.shop.delete(order)
        assert _text(scene.caller.ability(id=order)) == "Order not found."

    def test_the_bundled_adapter_hides_every_reason_but_rights(self, scene: Scene) -> None:
        scene.endpoint.adapter = "0.3.0"
        hidden = "An error occurred while executing the tool."
        assert _text(scene.caller.ability(id=1)) == hidden
        assert _text(scene.caller.ability(per_page=1000)) == hidden
        scene.endpoint.faults.add(faults.php_fatal("Oops"), times=1)
        assert _text(scene.caller.ability()) == hidden
        scene.shop.distort(scene.order(), faults.with_values(currency="XBT"))
        assert _text(scene.caller.ability()) == hidden
        scene.endpoint.lost_tools.add("woocommerce/orders-query")
        assert _text(scene.caller.ability()) == (
            "Permission denied: Ability 'woocommerce/orders-query' not found"
        )
        scene.endpoint.lost_tools.clear()
        scene.endpoint.passwords = [AppPassword("reader", "x", can_view=False)]
        scene.caller.password = scene.endpoint.passwords[0]
        assert _text(scene.caller.ability()) == (
            "Permission denied: Access denied for tool: mcp-adapter-execute-ability"
        )

    @pytest.mark.parametrize(
        ("text", "requested_from_utc"),
        [
            ("2026-11-23T12:00:00Z", 12),
            ("2026-11-23T12:00:00+03:00", 9),
            ("2026-11-23T12:00:00", 9),  # the shop's own clock
            ("2026-11-23 12:00:00Z", 9),  # so are these: the zone is ignored
            ("2026-11-23T12:00:00.000Z", 9),
        ],
    )
    def test_what_a_time_means(self, scene: Scene, text: str, requested_from_utc: int) -> None:
        hours = range(8, 14)
        for hour in hours:
            scene.shop.create_order(order_id=hour, created=NOON.replace(hour=hour) + timedelta(seconds=1))
        ids = scene.queried(modified_after=text, orderby="id", order="asc")
        assert ids == [hour for hour in hours if hour >= requested_from_utc]

    def test_paging_within_a_tie_loses_orders(self, scene: Scene) -> None:
        tied = {scene.order() for _ in range(63)}
        requested = {"orderby": "date_modified", "order": "asc", "per_page": 20}
        paged = [order for page in (1, 2, 3, 4) for order in scene.queried(page=page, **requested)]
        assert len(paged) == 63
        assert set(paged) < tied
        # The way round it.
        walked: list[int] = []
        while page := scene.queried(exclude=walked, **requested):
            walked += page
        assert (set(walked), len(walked)) == (tied, 63)

    def test_sorts(self, scene: Scene) -> None:
        cheap, dear, middling = (scene.shop.create_order(total=total) for total in (9, 1000, 90))
        assert scene.queried(orderby="total", order="asc") == [cheap, middling, dear]
        assert scene.queried(orderby="id") == [middling, dear, cheap]
        scene.shop.touch(cheap, at=NOON + timedelta(seconds=1))
        assert scene.queried(orderby="date_modified")[0] == cheap

    def test_lists_no_draft_no_trash_and_no_unregistered_status(self, scene: Scene) -> None:
        shown = [scene.order(status) for status in ("pending", "sborka", "refunded")]
        for status in ("checkout-draft", "auto-draft", "trash", "left-by-a-plugin"):
            hidden = scene.order(status)
            assert scene.queried(id=hidden) == []
        assert sorted(scene.queried()) == shown
        reason = "Reason: input[status] is not one of pending, processing, "
        assert reason in _text(scene.caller.ability(status="checkout-draft"))

    def test_shows_what_it_shows_and_no_more(self, scene: Scene) -> None:
        order = scene.shop.create_order("processing", total="1000.50")
        scene.shop.refund(order, 100)
        (shown,) = scene.caller.ability(id=order)["structuredContent"]["data"]["orders"]
        assert (shown["total"], "refunds" in shown, "billing" in shown) == ("1000.50", False, False)
        whole = json.loads(scene.caller.rest(f"include={order}").body)[0]
        assert shown == {name: whole[name] for name in shown if name != "billing_email"} | {
            "billing_email": whole["billing"]["email"]
        }

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"currency": "XBT"}, "[currency] is not one of AED, "),
            ({"date_modified_gmt": "soon"}, "Invalid date."),
            ({"total": 12}, "[total] is not of type string."),
            ({"billing": {"email": "nobody"}}, "Invalid email address."),
            ({"date_created": 5}, "[date_created] is not of type string,null."),
        ],
    )
    def test_one_order_poisons_its_page(self, scene: Scene, fields: dict[str, object], reason: str) -> None:
        good = scene.order()
        bad = scene.order(s=1)
        scene.shop.distort(bad, faults.with_values(**fields))
        text = _text(scene.caller.ability())
        assert text.startswith('Ability "woocommerce/orders-query" has invalid output. Reason: ')
        assert reason in text
        assert scene.queried(exclude=[bad]) == [good]

    def test_does_not_mind_what_it_does_not_show(self, scene: Scene) -> None:
        order = scene.order()
        scene.shop.distort(order, faults.with_values(customer_note="я" * 10_000, refunds="none"))
        assert scene.queried() == [order]

    def test_takes_a_password_with_or_without_its_spaces(self, scene: Scene) -> None:
        spaced = AppPassword("editor", "abcd EFGH 1234")
        scene.endpoint.passwords = [spaced]
        for password in (spaced, AppPassword("editor", "abcdEFGH1234")):
            scene.caller.password = password
            assert scene.caller.plugin(call("initialize")).status == 200
        scene.caller.password = AppPassword("editor", "abcdefgh1234")
        assert _error(scene.caller.plugin(call("initialize"))) == (401, "incorrect_password")

    @pytest.mark.parametrize("header", ["", "Basic", "Basic ?", "Basic bm9jb2xvbg==", "Bearer x"])
    def test_nobody_is_let_in(self, scene: Scene, header: str) -> None:
        answer = scene.caller.plugin(call("initialize"), authorization=header)
        assert _error(answer) == (401, "rest_forbidden")

    def test_a_session_ends(self, scene: Scene) -> None:
        opened = scene.caller.plugin(call("initialize")).headers["Mcp-Session-Id"]
        assert scene.caller.plugin(call("ping"), mcp_session_id=opened).status == 200
        scene.now += timedelta(hours=24, seconds=1)
        assert _error(scene.caller.plugin(call("ping"), mcp_session_id=opened)) == (404, -32005)
        scene.endpoint.adapter = "0.4.1"
        assert _error(scene.caller.plugin(call("ping"), mcp_session_id=opened)) == (200, -32602)

    @pytest.mark.parametrize(
        ("requested", "given"),
        [("2024-11-05", "2024-11-05"), ("2099-01-01", "2025-11-25"), (None, "2025-11-25")],
    )
    def test_echoes_the_versions_that_it_knows(self, scene: Scene, requested: str | None, given: str) -> None:
        answer = scene.caller.plugin(call("initialize", {"protocolVersion": requested}))
        assert json.loads(answer.body)["result"]["protocolVersion"] == given

    def test_a_later_adapter_takes_any_id_and_an_older_one_any_version(self, scene: Scene) -> None:
        headers = {"mcp_session_id": scene.endpoint.sessions.open(DEMO_PASSWORD.user)}
        answer = scene.caller.plugin(call("ping", call_id="abc"), **headers)
        assert json.loads(answer.body)["id"] == "abc"
        headers["mcp_protocol_version"] = "2026-07-28"
        assert scene.caller.plugin(call("ping"), **headers).status == 400
        scene.endpoint.adapter = "0.4.1"
        assert scene.caller.plugin(call("ping"), **headers).status == 200

    def test_says_so_if_something_is_not_simulated(self, scene: Scene) -> None:
        assert "does not simulate parent" in _text(scene.caller.ability(parent=1))
        assert "does not simulate" in _text(scene.caller.ability("woocommerce/order-update-status"))


class TestRest:
    def test_counts_and_links_the_pages(self, scene: Scene) -> None:
        ids = [scene.order(s=s) for s in range(5)]
        answer = scene.caller.rest("orderby=id&order=asc&per_page=2&page=2")
        assert _ids(answer) == ids[2:4]
        assert (answer.headers["X-WP-Total"], answer.headers["X-WP-TotalPages"]) == ("5", "3")
        before, after = answer.headers["Link"].split(", ")
        assert before.endswith('&page=1>; rel="prev"')
        assert after.endswith('&page=3>; rel="next"')

    def test_takes_lists_with_commas_and_in_brackets(self, scene: Scene) -> None:
        first, second, third = (scene.order(status) for status in ("pending", "failed", "sborka"))
        for query in (f"exclude={first},{second}", f"exclude[]={first}&exclude[]={second}"):
            assert scene.listed(query) == [third]
        assert scene.listed(f"include[0]={first}&include[1]={third}&order=asc") == [first, third]
        assert scene.listed("status=failed,sborka&order=asc") == [second, third]
        assert scene.listed("exclude=&order=asc") == [first, second, third]

    @pytest.mark.parametrize("in_gmt", ["true", "1"])
    def test_both_bounds_are_exclusive(self, scene: Scene, in_gmt: str) -> None:
        _, second, _ = (scene.order(s=s) for s in (1, 2, 3))
        for field in ("modified_", ""):
            bounds = f"{field}after=2026-11-23T12:00:01&{field}before=2026-11-23T12:00:03"
            assert scene.listed(f"{bounds}&dates_are_gmt={in_gmt}") == [second]

    def test_shows_the_fields_that_are_requested(self, scene: Scene) -> None:
        order = scene.shop.create_order("processing", first_name="Ольга", total=100)
        scene.shop.refund(order, 10, refund_id=7)
        (shown,) = json.loads(scene.caller.rest("_fields=refunds,billing.first_name,id,nosuch.at.all").body)
        refunds = [{"id": 7, "reason": "Возврат по просьбе покупателя", "total": "-10.00"}]
        assert shown == {"id": order, "billing": {"first_name": "Ольга"}, "refunds": refunds}
        assert list(shown) == ["id", "billing", "refunds"]  # the order's own order

    def test_a_post_may_say_that_it_is_a_get(self, scene: Scene) -> None:
        first, second = scene.order(), scene.order()
        body = {"exclude": [first], "_fields": ["id"], "dates_are_gmt": True}
        answer = scene.caller.rest_post(body)
        assert json.loads(answer.body) == [{"id": second}]
        assert scene.caller.rest_post(body, x_http_method_override="POST").status == 401
        assert _error(scene.caller.rest_post(b"{")) == (400, "rest_invalid_json")
        # Without its type a body is no JSON, and not read.
        assert len(_ids(scene.caller.rest_post(body, content_type="text/plain"))) == 2

    def test_tells_all_that_is_wrong_at_once(self, scene: Scene) -> None:
        answer = scene.caller.rest("page=0&order=up&offset=x&modified_after=1&foo=bar")
        error = json.loads(answer.body)
        assert _error(answer) == (400, "rest_invalid_param")
        assert error["message"] == "Invalid parameter(s): page, order, offset, modified_after"
        assert {name: detail["code"] for name, detail in error["data"]["details"].items()} == {
            "page": "rest_out_of_bounds",
            "order": "rest_not_in_enum",
            "offset": "rest_invalid_type",
            "modified_after": "rest_invalid_date",
        }

    @pytest.mark.parametrize(("exclude", "left"), [("abc", 2), ("abc,1001", 1), ("1001abc", 1), ("0", 2)])
    def test_takes_any_text_for_ids(self, scene: Scene, exclude: str, left: int) -> None:
        for _ in range(2):
            scene.order()
        answer = scene.caller.rest(f"exclude={exclude}")
        assert (answer.status, len(_ids(answer))) == (200, left)
        assert _ids(scene.caller.rest("include=abc")) == []

    @pytest.mark.parametrize("permissions", ["read", "read_write"])
    @pytest.mark.parametrize(
        ("method", "read", "read_write"),
        [
            ("GET", 200, 200),
            ("HEAD", 200, 200),
            ("OPTIONS", 200, 200),
            ("POST", 401, 501),
            ("DELETE", 401, 501),
        ],
    )
    @pytest.mark.parametrize("of", ["", "/1001"])
    def test_a_read_key_changes_nothing(  # noqa: PLR0917 - a table of three dimensions
        self, scene: Scene, method: str, read: int, read_write: int, permissions: Any, of: str
    ) -> None:
        scene.order()
        scene.endpoint.keys = [ApiKey("ck", "cs", permissions=permissions)]
        authorization = scene.endpoint.keys[0].basic
        answer = scene.caller.send(b"", method=method, path=ORDERS + of, authorization=authorization)
        assert answer.status == (read if permissions == "read" else read_write)
        if answer.status == 401:
            assert _error(answer) == (401, "woocommerce_rest_authentication_error")
        if method == "HEAD":
            assert (answer.body, answer.headers["Allow"]) == (b"", "GET, POST")
        if method == "HEAD" and not of:
            assert answer.headers["X-WP-Total"] == "1"

    def test_shows_one_order(self, scene: Scene) -> None:
        order = scene.order()
        answer = scene.caller.send(
            b"", method="GET", path=f"{ORDERS}/{order}", authorization=scene.caller.key.basic
        )
        assert [json.loads(answer.body)] == json.loads(scene.caller.rest().body)
        answer = scene.caller.send(
            b"", method="GET", path=f"{ORDERS}/9", authorization=scene.caller.key.basic
        )
        assert _error(answer) == (404, "woocommerce_rest_shop_order_invalid_id")

    def test_keys_in_the_query_let_nobody_in(self, scene: Scene) -> None:
        key = scene.caller.key
        query = f"consumer_key={key.consumer_key}&consumer_secret={key.consumer_secret}"
        for authorization in ("", key.basic):
            answer = scene.caller.rest(query, authorization=authorization)
            assert _error(answer) == (401, "woocommerce_rest_cannot_view")

    @pytest.mark.parametrize(
        ("via", "status"), [("", 401), ("&via=wp-json/wc/", 200), ("&via=wp-json%2Fwc%2F", 401)]
    )
    def test_keys_are_looked_for_only_where_the_address_says_so(
        self, scene: Scene, via: str, status: int
    ) -> None:
        query = f"rest_route=/wc/v3/orders{via}"
        for path in ("/", "/index.php"):
            answer = scene.caller.send(
                b"", method="GET", path=path, query=query, authorization=scene.caller.key.basic
            )
            assert answer.status == status
            if status == 401:
                assert _error(answer) == (401, "invalid_username")
            # WordPress's own passwords are good everywhere.
            answer = scene.caller.send(
                b"", method="GET", path=path, query=query, authorization=DEMO_PASSWORD.basic
            )
            assert answer.status == 200

    def test_says_so_if_a_filter_is_not_simulated(self, scene: Scene) -> None:
        assert _error(scene.caller.rest("search=x")) == (501, "not_simulated")

    @pytest.mark.parametrize(
        ("key", "status", "code"),
        [
            (ApiKey("ck", "cs", permissions="write"), 401, "woocommerce_rest_authentication_error"),
            (ApiKey("ck", "other"), 401, "woocommerce_rest_authentication_error"),
            (ApiKey("ck", "cs", user_exists=False), 401, "woocommerce_rest_cannot_view"),
            (ApiKey("ck", "cs", can_view=False), 403, "woocommerce_rest_cannot_view"),
            (ApiKey("another", "cs"), 401, "woocommerce_rest_cannot_view"),
        ],
    )
    def test_refuses(self, scene: Scene, key: ApiKey, status: int, code: str) -> None:
        scene.endpoint.keys = [key]
        scene.caller.key = ApiKey("ck", "cs")
        assert _error(scene.caller.rest()) == (status, code)

    def test_takes_wordpress_s_own_passwords_too(self, scene: Scene) -> None:
        assert scene.caller.rest(authorization=DEMO_PASSWORD.basic).status == 200

    def test_wants_https_if_told_so(self, scene: Scene) -> None:
        scene.endpoint.require_https = True
        assert _error(scene.caller.rest()) == (401, "woocommerce_rest_cannot_view")
        assert _error(scene.caller.plugin(call("initialize"))) == (401, "rest_forbidden")
        assert _error(scene.caller.execute()) == (403, "insecure_transport")


class TestBridge:
    @pytest.mark.parametrize("path", ["/wp-json/woocommerce/mcp/execute", "/execute", "/bridge/execute"])
    def test_answers_with_data_and_nothing_else(self, scene: Scene, path: str) -> None:
        first, second = scene.order("failed"), scene.order("failed")
        params = {"status": "failed", "per_page": 100, "orderby": "date", "order": "asc"}
        answer = scene.caller.send({"ability": "woocommerce/orders-list", "params": params}, path=path)
        assert list(json.loads(answer.body)) == ["data"]
        assert _ids(answer) == [first, second]
        assert json.loads(answer.body)["data"] == scene.caller.listing(**params)

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"ability": "woocommerce/nope"}, 404, "ability_not_found"),
            (
                {"ability": "woocommerce/orders-list", "params": {"per_page": 0}},
                400,
                "ability_invalid_input",
            ),
            ({"ability": "woocommerce/orders-list", "params": {"search": "x"}}, 501, "not_simulated"),
            (b"[]", 400, "rest_invalid_json"),
        ],
    )
    def test_refuses(self, scene: Scene, body: object, status: int, code: str) -> None:
        assert _error(scene.caller.send(body, path="/execute")) == (status, code)

    def test_wants_a_key(self, scene: Scene) -> None:
        answer = scene.caller.send({}, path="/execute", x_mcp_api_key="ck:cs")
        assert _error(answer) == (401, "authentication_failed")


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "abilities", "rest", "execute"),
        [
            (faults.maintenance(), 503, 503, 503),
            (faults.database_down(), 500, 500, 500),
            (faults.captcha(), 200, 200, 200),
            (faults.rate_limited(), 429, 429, 429),
            (faults.php_notice(), 200, 200, 200),
            (faults.php_fatal(), 200, 500, 500),
            (faults.out_of_memory(), 500, 500, 500),
            (faults.rest_error("rest_forbidden", "Нельзя", 403), 200, 403, 200),
            (faults.empty_body(), 200, 200, 200),
            (faults.half_a_body(), 200, 200, 200),
        ],
        ids=lambda value: value.name if isinstance(value, faults.Fault) else None,
    )
    def test_spoils_every_dialect(
        self, scene: Scene, fault: faults.Fault, abilities: int, rest: int, execute: int
    ) -> None:
        for dialect, status in (("abilities", abilities), ("rest", rest), ("execute", execute)):
            good = scene.ask(dialect)
            scene.endpoint.faults.add(fault, times=1)
            spoilt = scene.ask(dialect)
            assert spoilt.status == status
            assert spoilt.body != good.body
            assert scene.ask(dialect) == good
        assert scene.endpoint.faults.active == []

    def test_what_a_fatal_and_a_rest_error_look_like_to_an_ability(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.php_fatal("Oops"), times=1)
        text = 'Ability "woocommerce/orders-query" callback threw an exception: Oops'
        assert _text(scene.caller.ability()) == text
        scene.endpoint.faults.add(faults.rest_error("rest_forbidden", "Нельзя", 403), times=1)
        assert _text(scene.caller.ability()) == "Нельзя"

    def test_errors_of_the_keys_come_before_those_of_a_plugin(self, scene: Scene) -> None:
        scene.endpoint.keys = []
        scene.endpoint.faults.add(faults.php_fatal())
        scene.endpoint.faults.add(faults.rest_error("rest_forbidden", "Нельзя", 403))
        assert _error(scene.caller.rest()) == (401, "woocommerce_rest_cannot_view")
        assert _error(scene.caller.execute()) == (401, "authentication_failed")

    def test_may_be_about_some_dialects_only(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.bad_gateway(), dialects={"rest", "execute"})
        assert [scene.ask(dialect).status for dialect in SimulatedDialect] == [200, 200, 502, 502]
        scene.endpoint.faults.clear()
        scene.endpoint.faults.add(faults.feature_off())
        assert [scene.ask(dialect).status for dialect in SimulatedDialect] == [404, 200, 200, 200]

    def test_only_mcp_has_sessions_and_streams(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.event_stream())
        types = [scene.ask(dialect).headers["Content-Type"] for dialect in SimulatedDialect]
        assert [kind.partition(";")[0] for kind in types] == ["text/event-stream"] * 2 + [
            "application/json"
        ] * 2
        scene.endpoint.faults.clear()
        scene.endpoint.faults.add(faults.sessions_lost())
        assert [scene.ask(dialect).status for dialect in SimulatedDialect] == [200, 404, 200, 200]
        assert _error(scene.ask("woocommerce-mcp")) == (200, -32602)

    @pytest.mark.parametrize("dialect", SimulatedDialect)
    def test_the_same_page_for_ever(self, scene: Scene, dialect: str) -> None:
        scene.endpoint.faults.add(faults.same_page_for_ever())
        scene.order()
        first = scene.ask(dialect)
        second = scene.order(s=1)
        assert scene.ask(dialect).body == first.body
        scene.endpoint.faults.clear()
        assert str(second) in scene.ask(dialect).body.decode()
        assert scene.ask(dialect).body != first.body

    def test_a_plain_request_counts_as_a_call_of_a_tool(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.bad_gateway(), method="tools/call")
        assert {scene.ask(dialect).status for dialect in SimulatedDialect} == {502}
        scene.endpoint.faults.clear()
        scene.endpoint.faults.add(faults.bad_gateway(), method="initialize")
        assert {scene.ask(dialect).status for dialect in SimulatedDialect} == {200}
        assert scene.caller.plugin(call("initialize")).status == 502


class TestWebhooks:
    def test_are_signed_with_the_secret(self, scene: Scene) -> None:
        order = scene.order()
        headers, body = delivery(scene.shop, order, "order.updated", "тайна")
        signature = b64encode(hmac.new("тайна".encode(), body, "sha256").digest()).decode()
        assert headers["X-WC-Webhook-Signature"] == signature
        assert delivery(scene.shop, order, "order.updated", "other")[0] != headers

    def test_bring_the_order_as_of_now(self, scene: Scene) -> None:
        order = scene.order()
        scene.shop.set_status(order, "processing")
        _, body = delivery(scene.shop, order, "order.updated", "secret")
        assert [json.loads(body)] == json.loads(scene.caller.rest().body)

    def test_know_no_order_that_is_not_there(self, scene: Scene) -> None:
        order = scene.order()
        scene.shop.delete(order)
        with pytest.raises(NoSuchOrderError):
            delivery(scene.shop, order, "order.updated", "secret")
        assert delivery(scene.shop, order, "order.deleted", "secret")[1] == b'{"id":%d}' % order


@pytest.mark.parametrize("path", [MCP_ADAPTER, ORDERS, "/execute"])
def test_other_methods_have_no_route(scene: Scene, path: str) -> None:
    assert _error(scene.caller.send(b"", method="PUT", path=path)) == (404, "rest_no_route")
