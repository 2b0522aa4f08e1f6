"""The simulated shop against the recordings of 2026-11: two MCP adapters, dates, a stock nginx, refusals."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shop_poller.simulator import faults, quirks
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import ApiKey, AppPassword
from shop_poller.simulator.shop import SimulatedShop
from support import wire
from support.recorded_shop import KEY, TRANSPORT, instant, json_in, shape

RECORDINGS = wire.names("2026-11")
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
USER = AppPassword("poller", "password")
STRANGER = ApiKey("ck_" + "1" * 40, "cs_" + "1" * 40)


class Stage:
    """A shop in the state that the recorded one was in."""

    def __init__(self, name: str) -> None:
        self.name = name.removeprefix("2026-11/")
        self.recorded = wire.load(name)
        self.shop = SimulatedShop(lambda: NOW, url="https://shop.example", first_id=1)
        self.endpoint = Endpoint(self.shop, keys=[KEY], passwords=[USER], require_https=True)
        self.key, self.user = KEY, USER
        if "0.3.0" in name:
            self.endpoint.adapter = self.endpoint.woocommerce_adapter = "0.3.0"
        if "0.5.0plus" in name:
            self.endpoint.adapter = self.endpoint.woocommerce_adapter = "0.5.0"

    def stock(self, order_id: int, status: str, created: datetime, modified: datetime | None = None) -> None:
        self.shop.create_order(
            status, order_id=order_id, total="1000.00", created=created, modified=modified or created
        )

    def stock_many(self, count: int, *, status: str = "completed", created: datetime | None = None) -> None:
        for _ in range(count):
            self.shop.create_order(status, created=created or NOW - timedelta(days=400), modified=NOW)

    def play(self) -> Answer:
        """Send what was recorded, with credentials and a session of this shop's."""
        sent = self.recorded.request
        headers = dict(sent.headers)
        is_mcp = "/mcp" in sent.path
        if "authorization" in headers:
            headers["authorization"] = self.user.basic if is_mcp else self.key.basic
        if "x-mcp-api-key" in headers:
            headers["x-mcp-api-key"] = self.key.header
        if "mcp-session-id" in headers and "unknown-session" not in self.name:
            user = self.user.user if "authorization" in headers else self.key.user
            headers["mcp-session-id"] = self.endpoint.sessions.open(user)
        if sent.body:
            headers["content-type"] = "application/json"
        path, _, query = sent.path.partition("?")
        return self.endpoint.answer(Request(sent.method, path, headers, sent.body, query, secure=True))


def as_it_is(_stage: Stage) -> None:
    pass


def one_of_62(stage: Stage) -> None:
    made_later = instant("2026-12-01T09:39:43")
    stage.shop.create_order(
        "processing", order_id=66, lines=(), created=made_later, modified=instant("2026-11-30T09:39:43")
    )
    stage.stock_many(61)


def wrong_key(stage: Stage) -> None:
    stage.key, stage.user = STRANGER, AppPassword("ck_stranger", "cs")


def some_dates(stage: Stage) -> None:
    stage.stock(1143, "completed", instant("2026-11-30T09:09:12"), instant("2026-11-30T09:10:12"))
    stage.stock(3996, "completed", instant("2026-11-30T09:55:48"), instant("2026-11-30T09:55:53"))
    naive = "naive" in stage.name
    stage.stock_many(35 if naive else 612)


def a_bad_order(stage: Stage) -> None:
    stage.stock(60071, "processing", NOW)
    stage.shop.distort(60071, faults.with_values(currency="XBT"))


def a_crowd(count: int) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        stage.endpoint.faults.add(quirks.stock_nginx())
        for order_id in range(10_000, 10_000 + count):
            created = NOW - timedelta(days=1)
            stage.stock(order_id, "completed", created, instant("2026-11-30T10:20:29"))

    return set_up


def plain_permalinks(stage: Stage) -> None:
    stage.shop.plain_permalinks = True


def a_fresh_order(stage: Stage) -> None:
    at = instant("2026-11-30T10:09:23")
    stage.shop.create_order("processing", order_id=4013, created=at, first_name="Анна")


def one_of_many(stage: Stage) -> None:
    stage.stock(4048, "completed", NOW)
    stage.stock_many(5)  # the recorded shop had 53,116


def maintenance(stage: Stage) -> None:
    stage.endpoint.faults.add(faults.maintenance())


SET_UP: dict[str, Callable[[Stage], None]] = {
    "abilities-adapter-0.3.0-bundled-unknown-currency": a_bad_order,
    "abilities-adapter-0.5.0plus-unknown-currency": a_bad_order,
    "abilities-date_after-Z-utc+3": some_dates,
    "abilities-date_before-Z-utc+3": some_dates,
    "abilities-date_before-naive-utc+3": some_dates,
    "rest-exclude-100-nginx-default-fastcgi-buffer": a_crowd(1500),
    "rest-exclude-156-nginx-default-fastcgi-buffer": a_crowd(1500),
    "rest-fields": one_of_many,
    "rest-maintenance-retry-after-600": maintenance,
    "rest-plain-permalinks-rest_route": plain_permalinks,
    "rest-post-method-get": a_crowd(2956),
    "rest-wrong-consumer-key": wrong_key,
    "woocommerce-mcp-fields-argument": a_fresh_order,
    "woocommerce-mcp-maintenance": maintenance,
}
OF_ADAPTERS: dict[str, Callable[[Stage], None]] = {
    "call-ok": one_of_62,
    "call-unsupported-version": one_of_62,
    "string-id": one_of_62,
    "wrong-key": wrong_key,
}


def set_up(name: str) -> Callable[[Stage], None]:
    for end, chosen in OF_ADAPTERS.items():
        if name.endswith(end):
            return chosen
    return SET_UP.get(name, as_it_is)


@pytest.mark.parametrize("name", RECORDINGS)
def test_answers_as_recorded(name: str) -> None:
    stage = Stage(name)
    set_up(stage.name)(stage)
    recorded = stage.recorded.response

    answer = stage.play()

    assert answer.status == recorded.status
    _compare_headers(answer, recorded)
    theirs = json_in(recorded.body) if len(recorded.body) < 19_000 else None  # or it is cut
    if theirs is not None:
        ours = json_in(answer.body)
        assert shape(_without_orders(ours)) == shape(_without_orders(theirs))
        assert _without_orders(ours) == _without_orders(theirs)
        assert [_names(order) for order in _orders(ours)] == [_names(order) for order in _orders(theirs)]
        assert [order["id"] for order in _orders(ours)] == [order["id"] for order in _orders(theirs)]
    elif recorded.status >= 400:
        assert answer.body.split() == recorded.body.split()


def test_every_set_up_has_its_recording() -> None:
    assert {f"2026-11/{name}" for name in SET_UP} <= set(RECORDINGS)
    assert all(any(name.endswith(end) for name in RECORDINGS) for end in OF_ADAPTERS)


def _compare_headers(answer: Answer, recorded: wire.Message) -> None:
    ours = {name.lower(): value for name, value in answer.headers.items()}
    theirs = {name: value for name, value in recorded.headers.items() if name != "x-wp-doingitwrong"}
    assert ours.keys() - TRANSPORT == theirs.keys() - TRANSPORT
    assert ours["content-type"] == theirs["content-type"]
    too_many = {"x-wp-total", "x-wp-totalpages"} if theirs.get("x-wp-total") == "53117" else set()
    for name in ours.keys() - TRANSPORT - too_many - {"mcp-session-id"}:
        assert ours[name] == theirs[name], name
    if "mcp-session-id" in ours:
        assert len(ours["mcp-session-id"]) == len(theirs["mcp-session-id"])


def _orders(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, list):
        return answer
    content = answer.get("result", {}).get("structuredContent") or {}
    data = content.get("data", [])
    orders: list[dict[str, Any]] = data["orders"] if isinstance(data, dict) else data
    return orders


def _without_orders(answer: Any) -> Any:
    """All that stands around a list; the text that says it again is compared with it."""
    if isinstance(answer, list):
        return []
    plain = json.loads(json.dumps(answer))
    if _orders(plain):
        result = plain["result"]
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        result["content"] = len(result["content"])
        _orders(plain).clear()
    return plain


def _names(order: Mapping[str, Any]) -> list[str]:
    return list(order)


def test_a_list_with_fields_is_formatted_as_recorded() -> None:
    stage = Stage("2026-11/woocommerce-mcp-fields-argument")
    a_fresh_order(stage)
    (ours,), (theirs,) = _orders(json_in(stage.play().body)), _orders(stage.recorded.response.json())
    # Amounts that were not asked for stand as in the database.
    assert (ours["discount_total"], ours["cart_tax"]) == (theirs["discount_total"], theirs["cart_tax"])
    assert theirs["total"].endswith(".00")
    assert "." in ours["total"]
    for name in ("date_created", "date_created_gmt", "date_paid", "date_completed", "date_paid_gmt"):
        assert ours[name] == theirs[name], name


@pytest.mark.parametrize(("ids", "status"), [(100, 200), (140, 200), (150, 502), (156, 502)])
def test_a_stock_nginx_refuses_a_head_of_more_than_4_kb(ids: int, status: int) -> None:
    stage = Stage("2026-11/rest-exclude-100-nginx-default-fastcgi-buffer")
    a_crowd(200)(stage)
    first = 200_000  # six digits: 24 bytes an id, as in most shops
    path, _, query = stage.recorded.request.path.partition("?")
    kept = [part for part in query.split("&") if not part.startswith("exclude=")]
    requested = "&".join([*kept, "exclude=" + ",".join(str(first + i) for i in range(ids))])
    headers = {"authorization": KEY.basic}
    answer = stage.endpoint.answer(Request("GET", path, headers, b"", requested, secure=True))
    assert answer.status == status
    without = Endpoint(stage.shop, keys=[KEY]).answer(
        Request("GET", path, headers, b"", requested, secure=True)
    )
    assert without.status == 200
    assert (quirks.head_bytes(without) > 4096) == (status == 502)


def test_a_post_that_is_a_get_keeps_the_head_small() -> None:
    stage = Stage("2026-11/rest-post-method-get")
    a_crowd(2956)(stage)
    link = stage.play().headers["Link"]
    assert link == stage.recorded.response.headers["link"]
    assert len(link) <= 76
