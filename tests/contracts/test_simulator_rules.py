"""The simulated shop against what is known of WooCommerce beyond the recordings."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_KEY, ApiKey
from shop_poller.simulator.sessions import MAX_SESSIONS
from shop_poller.simulator.shop import SimulatedShop
from support.simulated import Caller, call

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ASCENDING = {"orderby": "modified", "order": "asc"}


class Scene:
    """A shop in Moscow at noon UTC, and somebody who asks it."""

    def __init__(self, *keys: ApiKey) -> None:
        self.now = NOON
        self.shop = SimulatedShop(lambda: self.now)
        self.endpoint = Endpoint(self.shop, keys=keys or (DEMO_KEY,))
        self.caller = Caller(self.endpoint)

    def order(self, status: str = "pending", *, s: int = 0) -> int:
        """An order modified so many seconds after noon."""
        return self.shop.create_order(status, created=NOON + timedelta(seconds=s))


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestListing:
    def test_both_bounds_are_exclusive(self, scene: Scene) -> None:
        _, second, _ = (scene.order(s=s) for s in (1, 2, 3))
        for field in ("modified_", ""):
            bounds = {
                f"{field}after": "2026-11-23T12:00:01",
                f"{field}before": "2026-11-23T12:00:03",
            }
            assert scene.caller.ids(**bounds, dates_are_gmt=True) == [second]

    @pytest.mark.parametrize(
        ("text", "in_gmt", "requested_from_utc"),
        [
            ("2026-11-23T12:00:00", True, 12),
            ("2026-11-23T12:00:00", False, 9),  # the shop's own clock
            ("2026-11-23T12:00:00Z", False, 12),
            ("2026-11-23T12:00:00+03:00", False, 9),
            ("2026-11-23T12:00:00Z", True, 15),  # the trap: three hours are lost
            ("2026-11-23T12:00:00+03:00", True, 12),  # an instant of 09:00 UTC, shifted as well
        ],
    )
    def test_what_a_time_means(
        self, scene: Scene, text: str, *, in_gmt: bool, requested_from_utc: int
    ) -> None:
        hours = range(8, 17)
        for hour in hours:
            moment = NOON.replace(hour=hour) + timedelta(seconds=1)
            scene.shop.create_order(order_id=hour, created=moment)
        ids = scene.caller.ids(modified_after=text, dates_are_gmt=in_gmt, **ASCENDING)
        assert ids == [hour for hour in hours if hour >= requested_from_utc]

    def test_sorts_ties_by_id_in_the_same_direction(self, scene: Scene) -> None:
        late = scene.order(s=9)
        tied = [scene.order(s=5) for _ in range(3)]
        assert scene.caller.ids(**ASCENDING) == [*tied, late]
        assert scene.caller.ids(orderby="modified") == [late, *reversed(tied)]
        assert scene.caller.ids(orderby="id", order="asc") == [late, *tied]
        assert scene.caller.ids(orderby="include", include=[tied[1], late]) == [tied[1], late]

    def test_newest_created_first_and_ten_a_page_unless_told(self, scene: Scene) -> None:
        ids = [scene.order(s=s) for s in range(12)]
        assert scene.caller.ids() == ids[:1:-1]
        assert scene.caller.ids(page=2) == ids[1::-1]

    def test_a_page_shifts_when_an_earlier_order_is_touched(self, scene: Scene) -> None:
        ids = [scene.order(s=s) for s in range(4)]
        listed = scene.caller.ids(per_page=2, page=1, **ASCENDING)
        scene.shop.touch(ids[0], at=NOON + timedelta(minutes=1))
        listed += scene.caller.ids(per_page=2, page=2, **ASCENDING)
        assert ids[2] not in listed

    def test_an_offset_beats_the_page(self, scene: Scene) -> None:
        ids = [scene.order(s=s) for s in range(5)]
        assert scene.caller.ids(per_page=2, page=9, offset=1, **ASCENDING) == ids[1:3]

    def test_excludes(self, scene: Scene) -> None:
        first, second = scene.order(), scene.order()
        assert scene.caller.ids(exclude=[first]) == [second]
        assert scene.caller.ids(exclude=[]) == [second, first]

    def test_any_means_registered_statuses(self, scene: Scene) -> None:
        for status in (*scene.shop.statuses, "auto-draft"):
            scene.order(status)
        scene.shop.hidden_status(scene.order(), "left-by-a-plugin")
        scene.shop.trash(scene.order("completed"))
        listed = {order["status"] for order in scene.caller.listing(per_page=100)}
        assert listed == set(scene.shop.statuses)
        assert {"sborka", "checkout-draft"} <= listed

    @pytest.mark.parametrize("status", ["trash", "auto-draft", "sborka"])
    def test_lists_what_is_requested_by_name(self, scene: Scene, status: str) -> None:
        scene.order()
        named = scene.order()
        scene.shop.hidden_status(named, status)
        assert scene.caller.ids(status=[status]) == [named]
        assert scene.caller.ids(status=status) == [named]  # WordPress splits a string itself

    def test_has_no_totals(self, scene: Scene) -> None:
        scene.order()
        result = scene.caller.tool("woocommerce-orders-list", {})
        assert list(result["structuredContent"]) == ["data"]

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({"per_page": 0}, "input[per_page] must be between 1 (inclusive) and 100 (inclusive)"),
            ({"page": 0}, "input[page] must be greater than or equal to 1"),
            ({"per_page": "many"}, "input[per_page] is not of type integer."),
            ({"dates_are_gmt": "perhaps"}, "input[dates_are_gmt] is not of type boolean."),
            ({"modified_after": "2026-11-23"}, "Invalid date."),
            ({"modified_after": "2026-13-23T00:00:00"}, "Invalid date."),
            ({"order": "up"}, "input[order] is not one of asc and desc."),
            ({"status": {}}, "input[status] is not of type array."),
            ({"exclude": ["x"]}, "input[exclude][0] is not of type integer."),
            ("x", "input is not of type object."),
        ],
    )
    def test_refuses_bad_input_in_wordpress_s_words(
        self, scene: Scene, arguments: object, reason: str
    ) -> None:
        result = scene.caller.tool("woocommerce-orders-list", arguments)
        text = f'Ability "woocommerce/orders-list" has invalid input. Reason: {reason}'
        assert result == {"content": [{"type": "text", "text": text}], "isError": True}

    def test_names_the_statuses_that_a_list_may_be_filtered_by(self, scene: Scene) -> None:
        scene.shop.custom_statuses = ()
        result = scene.caller.tool("woocommerce-orders-list", {"status": ["sborka"]})
        assert "input[status][0] is not one of any, trash, " in result["content"][0]["text"]

    def test_takes_numbers_and_booleans_in_strings(self, scene: Scene) -> None:
        ids = [scene.order(s=s) for s in range(3)]
        requested = {"per_page": "2", "dates_are_gmt": "true", "modified_after": "2026-11-23T12:00:00"}
        assert scene.caller.ids(**requested) == [ids[2], ids[1]]

    def test_says_so_if_a_filter_is_not_simulated(self, scene: Scene) -> None:
        assert scene.caller.tool("woocommerce-orders-list", {"search": "x"})["isError"]

    def test_a_hundred_orders_weigh_as_much_as_real_ones(self, scene: Scene) -> None:
        for _ in range(100):
            scene.order()
        session_id = scene.endpoint.sessions.open(DEMO_KEY.user)
        body = call("tools/call", {"name": "woocommerce-orders-list", "arguments": {"per_page": 100}})
        size = len(scene.caller.send(body, session_id=session_id).body)
        assert 600_000 < size < 1_100_000


class TestOrder:
    @pytest.mark.parametrize(
        ("action", "moves"),
        [
            (lambda shop, order: shop.set_status(order, "completed"), True),
            (lambda shop, order: shop.refund(order, 10), True),
            (lambda shop, order: shop.refund(order), True),
            (lambda shop, order: shop.touch(order), True),
            (lambda shop, order: shop.trash(order), True),
            (lambda shop, order: shop.fill(order, []), True),
            (lambda shop, order: shop.set_status(order, "processing"), False),  # it is that already
            (lambda shop, order: shop.note(order), False),
            (lambda shop, order: shop.hidden_status(order, "cancelled"), False),
        ],
    )
    def test_what_moves_modified(
        self, scene: Scene, action: Callable[[SimulatedShop, int], object], *, moves: bool
    ) -> None:
        order = scene.order("processing")
        scene.now += timedelta(hours=1, microseconds=999_999)
        action(scene.shop, order)
        hour = 13 if moves else 12
        assert scene.caller.get(order)["date_modified_gmt"] == f"2026-11-23T{hour}:00:00"

    def test_deleting_a_refund_moves_nothing(self, scene: Scene) -> None:
        order = scene.order("processing")
        refund_id = scene.shop.refund(order, 10)
        before = scene.caller.get(order)
        scene.now += timedelta(hours=1)
        scene.shop.delete_refund(order, refund_id)
        assert scene.caller.get(order) == {**before, "refunds": []}

    def test_a_partial_refund_leaves_status_and_total(self, scene: Scene) -> None:
        order = scene.shop.create_order("processing", total="1000.50")
        scene.shop.refund(order, "100", "не подошло")
        shown = scene.caller.get(order)
        assert (shown["status"], shown["total"]) == ("processing", "1000.50")
        assert [(row["total"], row["reason"]) for row in shown["refunds"]] == [("-100.00", "не подошло")]

    def test_refunding_the_rest_makes_it_refunded(self, scene: Scene) -> None:
        order = scene.shop.create_order("completed", total=500)
        scene.shop.refund(order, 100)
        scene.shop.refund(order)
        shown = scene.caller.get(order)
        assert (shown["status"], shown["total"]) == ("refunded", "500.00")
        assert [row["total"] for row in shown["refunds"]] == ["-100.00", "-400.00"]
        with pytest.raises(ValueError, match="cannot refund"):
            scene.shop.refund(order, 1)

    def test_is_never_refunded_without_a_refund(self, scene: Scene) -> None:
        shown = scene.caller.get(scene.shop.create_order("refunded", total=70))
        assert (shown["status"], shown["date_modified_gmt"]) == ("refunded", "2026-11-23T12:00:00")
        assert [row["total"] for row in shown["refunds"]] == ["-70.00"]

    def test_paid_is_set_once_and_completed_each_time(self, scene: Scene) -> None:
        order = scene.order()
        dates = []
        for status in ("failed", "processing", "completed", "processing", "completed"):
            scene.now += timedelta(minutes=1)
            scene.shop.set_status(order, status)
            shown = scene.caller.get(order)
            dates.append((shown["date_paid_gmt"], shown["date_completed_gmt"]))
        two, three, five = (f"2026-11-23T12:0{minute}:00" for minute in (2, 3, 5))
        assert dates == [(None, None), (two, None), (two, three), (two, three), (two, five)]

    def test_local_and_gmt_dates_agree_in_a_zone_with_summer_time(self) -> None:
        summer, winter = (datetime(2026, month, 1, tzinfo=UTC) for month in (7, 12))
        shop = SimulatedShop(lambda: NOON, time_zone="Europe/Berlin")
        caller = Caller(Endpoint(shop))
        orders = [shop.create_order(created=moment) for moment in (summer, winter)]
        local = [caller.get(order)["date_created"] for order in orders]
        assert local == ["2026-07-01T02:00:00", "2026-12-01T01:00:00"]

    def test_moscow_needs_no_database_of_zones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_zone(name: str) -> None:
            raise ZoneInfoNotFoundError(name)

        monkeypatch.setattr("shop_poller.simulator.shop.ZoneInfo", no_zone)
        shop = SimulatedShop(lambda: NOON)
        shown = Caller(Endpoint(shop)).get(shop.create_order())
        assert shown["date_created"] == "2026-11-23T15:00:00"
        with pytest.raises(ZoneInfoNotFoundError):
            SimulatedShop(lambda: NOON, time_zone="Asia/Omsk")

    def test_a_half_made_order_is_seen_and_then_filled(self, scene: Scene) -> None:
        order = scene.shop.create_order(lines=[])
        shown = scene.caller.get(order)
        assert (shown["status"], shown["total"], shown["line_items"]) == ("pending", "0.00", [])
        lines = scene.shop.order(scene.order()).lines
        scene.shop.fill(order, lines)
        assert len(scene.caller.get(order)["line_items"]) == len(lines)

    def test_may_be_dated_in_the_future(self, scene: Scene) -> None:
        order = scene.shop.create_order(created=NOON + timedelta(days=30))
        assert scene.caller.ids(modified_after="2026-12-01T00:00:00", dates_are_gmt=True) == [order]

    def test_a_restored_order_has_its_old_status(self, scene: Scene) -> None:
        order = scene.order("failed")
        scene.shop.trash(order)
        scene.shop.restore(order)
        shown = scene.caller.get(order)
        assert shown["status"] == "failed"
        assert not any("trash" in row["key"] for row in shown["meta_data"])

    def test_a_deleted_order_is_gone(self, scene: Scene) -> None:
        order = scene.order()
        scene.shop.delete(order)
        assert scene.caller.get(order)["code"] == "woocommerce_rest_shop_order_invalid_id"

    def test_can_be_distorted_and_mended(self, scene: Scene) -> None:
        order = scene.order()
        whole = scene.caller.listing()
        for distortion in (
            faults.without("status", "date_modified_gmt"),
            faults.with_values(date_modified_gmt="soon", customer_note="я" * 10_000),
            lambda _order: None,
        ):
            scene.shop.distort(order, distortion)
            assert scene.caller.listing() == [distortion(dict(whole[0]))]
        scene.shop.distort(order, None)
        assert scene.caller.listing() == whole

    def test_wants_aware_instants(self, scene: Scene) -> None:
        with pytest.raises(ValueError, match="no time zone"):
            scene.shop.touch(scene.order(), at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point


class TestSessions:
    def open(self, scene: Scene, **headers: str) -> str | None:
        answer = scene.caller.send(call("initialize"), **headers)
        return answer.headers.get("Mcp-Session-Id")

    def knows(self, scene: Scene, session_id: str | None) -> bool:
        answer = json.loads(scene.caller.send(call("ping"), session_id=session_id).body)
        if "error" in answer:
            assert answer["error"]["code"] == -32602
        return "result" in answer

    def test_the_oldest_of_more_than_32_is_evicted(self, scene: Scene) -> None:
        sessions = [self.open(scene) for _ in range(MAX_SESSIONS + 1)]
        assert [self.knows(scene, session) for session in sessions] == [False] + [True] * 32

    def test_a_session_lives_a_day_after_its_last_use(self, scene: Scene) -> None:
        session = self.open(scene)
        for _ in range(2):
            scene.now += timedelta(hours=24)
            assert self.knows(scene, session)
        scene.now += timedelta(hours=24, seconds=1)
        assert not self.knows(scene, session)

    def test_belongs_to_its_user(self) -> None:
        other = ApiKey("ck_other", "cs_other", user="other")
        scene = Scene(DEMO_KEY, other)
        session = self.open(scene, x_mcp_api_key=other.header)
        assert not self.knows(scene, session)

    def test_initialize_with_an_old_header_makes_none(self, scene: Scene) -> None:
        assert self.open(scene, mcp_session_id="old") is None
        assert self.open(scene) is not None

    def test_delete_ends_it_and_is_200_whatever_the_session(self, scene: Scene) -> None:
        session = self.open(scene)
        for session_id in (session, session, "never-was"):
            answer = scene.caller.send(b"", session_id=session_id, method="DELETE")
            assert (answer.status, answer.body) == (200, b"")
        assert not self.knows(scene, session)

    def test_all_may_be_lost(self, scene: Scene) -> None:
        session = self.open(scene)
        scene.endpoint.sessions.lose_all()
        assert not self.knows(scene, session)


class TestRpc:
    def send(self, scene: Scene, body: object) -> tuple[int, Any]:
        session_id = scene.endpoint.sessions.open(DEMO_KEY.user)
        answer = scene.caller.send(body, session_id=session_id)
        return answer.status, json.loads(answer.body or b"null")

    @pytest.mark.parametrize("call_id", ["abc", 1.0, True, [], {}])
    def test_an_id_that_is_no_integer_breaks_the_handler(self, scene: Scene, call_id: object) -> None:
        for body in (call("ping", call_id=call_id), [call("ping"), call("ping", call_id=call_id)]):
            status, answer = self.send(scene, body)
            assert (status, answer["id"], answer["error"]["code"]) == (500, 0, -32603)

    def test_a_body_without_the_version_is_no_json_rpc(self, scene: Scene) -> None:
        # This is what the old design's call gets when it is sent to this endpoint.
        status, answer = self.send(scene, {"ability": "woocommerce/orders-list", "params": {}})
        message = 'Invalid Request: jsonrpc version must be "2.0"'
        assert (status, answer["error"]) == (400, {"code": -32600, "message": message})

    def test_a_batch_is_200_even_without_a_session(self, scene: Scene) -> None:
        answer = scene.caller.send([call("ping", call_id=7)])
        (only,) = json.loads(answer.body)
        assert (answer.status, only["id"], only["error"]["code"]) == (200, 7, -32600)

    def test_json_null_is_no_message(self, scene: Scene) -> None:
        status, answer = self.send(scene, None)
        assert (status, answer["error"]["code"]) == (400, -32700)

    @pytest.mark.parametrize("name", ["woocommerce-orders-update", "woocommerce-orders-create"])
    def test_even_a_writing_key_writes_nothing_here(self, name: str) -> None:
        scene = Scene(ApiKey("ck_w", "cs_w", permissions="read_write"))
        scene.caller.key = scene.endpoint.keys[0]
        assert "does not simulate" in scene.caller.tool(name, {"id": 1})["content"][0]["text"]

    def test_an_id_is_required(self, scene: Scene) -> None:
        result = scene.caller.tool("woocommerce-orders-get", {})
        assert result["content"][0]["text"].endswith("Reason: id is a required property of input.")


class TestFaults:
    LIST = call("tools/call", {"name": "woocommerce-orders-list", "arguments": {}})

    def send(self, scene: Scene) -> Any:
        session_id = scene.endpoint.sessions.open(DEMO_KEY.user)
        return scene.caller.send(self.LIST, session_id=session_id)

    @pytest.mark.parametrize(
        ("fault", "status", "content_type"),
        [
            (faults.maintenance(), 503, "application/json"),
            (faults.maintenance(html=True), 503, "text/html"),
            (faults.database_down(), 500, "application/json"),
            (faults.feature_off(), 404, "application/json"),
            (faults.php_fatal(), 200, "application/json"),
            (faults.out_of_memory(), 500, "application/json"),
            (faults.captcha(), 200, "text/html"),
            (faults.captcha(202), 202, "text/html"),
            (faults.bad_gateway(), 502, "text/html"),
            (faults.rate_limited(), 429, "text/html"),
            (faults.empty_body(), 200, "application/json"),
            (faults.half_a_body(), 200, "application/json"),
            (faults.event_stream(), 200, "text/event-stream"),
            (faults.rest_error("rest_forbidden", "Нельзя", 403), 200, "application/json"),
        ],
        ids=lambda value: value.name if isinstance(value, faults.Fault) else None,
    )
    def test_spoils_so_many_answers_and_then_no_more(
        self, scene: Scene, fault: faults.Fault, status: int, content_type: str
    ) -> None:
        scene.order()
        good = self.send(scene)
        scene.endpoint.faults.add(fault, times=2)
        for _ in range(2):
            spoilt = self.send(scene)
            assert spoilt.status == status
            assert spoilt.headers["Content-Type"].startswith(content_type)
            assert spoilt.body != good.body
        assert self.send(scene) == good
        assert scene.endpoint.faults.active == []

    def test_lasts_until_it_is_cleared(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.database_down())
        scene.endpoint.faults.add(faults.slow(5), method="initialize")
        assert [self.send(scene).status for _ in range(5)] == [500] * 5
        scene.endpoint.faults.clear("database down")
        assert scene.endpoint.faults.active == ["slow"]
        assert (self.send(scene).status, self.send(scene).delay_s) == (200, 0)
        assert scene.caller.send(call("initialize")).delay_s == 5
        scene.endpoint.faults.clear()
        assert scene.caller.send(call("initialize")).delay_s == 0

    @pytest.mark.parametrize("wanted", [None, 60, "Mon, 23 Nov 2026 12:01:00 GMT"])
    def test_a_rate_limit_may_say_for_how_long(self, scene: Scene, wanted: int | str | None) -> None:
        scene.endpoint.faults.add(faults.rate_limited(wanted))
        said = self.send(scene).headers.get("Retry-After")
        assert said == (None if wanted is None else str(wanted))

    def test_an_event_stream_carries_the_same_message(self, scene: Scene) -> None:
        good = self.send(scene)
        scene.endpoint.faults.add(faults.event_stream())
        lines = self.send(scene).body.splitlines()
        assert b"data: " + good.body in lines

    def test_the_same_page_for_ever(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.same_page_for_ever())
        first = scene.order()
        assert scene.caller.ids() == [first]
        second = scene.order()
        assert scene.caller.ids(exclude=[first]) == [first]
        assert scene.caller.get(second)["id"] == second
        scene.endpoint.faults.clear()
        assert scene.caller.ids(exclude=[first]) == [second]

    def test_no_session_is_ever_known(self, scene: Scene) -> None:
        scene.endpoint.faults.add(faults.sessions_lost())
        opened = scene.caller.send(call("initialize"))
        session_id = opened.headers["Mcp-Session-Id"]
        answer = json.loads(scene.caller.send(self.LIST, session_id=session_id).body)
        assert answer["error"]["code"] == -32602

    def test_the_date_is_the_shop_s_unless_skewed_or_eaten(self, scene: Scene) -> None:
        assert self.send(scene).headers["Date"] == "Mon, 23 Nov 2026 12:00:00 GMT"
        scene.endpoint.faults.add(faults.clock_skew(-300), times=1)
        assert self.send(scene).headers["Date"] == "Mon, 23 Nov 2026 11:55:00 GMT"
        scene.endpoint.faults.add(faults.no_date(), times=1)
        assert "Date" not in self.send(scene).headers
