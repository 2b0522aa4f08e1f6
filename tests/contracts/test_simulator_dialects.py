"""The simulated shop's other dialects against the recordings of real shops."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, php_json
from shop_poller.simulator.goods import Customer, LineItem, Product
from shop_poller.simulator.keys import ApiKey, AppPassword
from shop_poller.simulator.webhooks import Topic, delivery, ping
from support import wire
from support.recorded_shop import KEY, Scene, comparable, compare_headers, instant, json_in

RECORDINGS = [name for folder in ("abilities", "rest-v3", "execute") for name in wire.names(folder)]
USER = AppPassword("user", "password")


class AsTheyLie(Random):
    """A database that leaves a tie's rows in the order they were put in."""

    def shuffle(self, x: Any) -> None:
        """Leave them."""


class Stage(Scene):
    """A shop that takes the recordings' credentials, whatever they were before they were replaced."""

    def __init__(self, recorded: wire.Exchange) -> None:
        super().__init__(parsedate_to_datetime(recorded.response.headers["date"]))
        self.secure = "<https://" in recorded.response.headers.get("link", "<https://")
        self.shop.url = f"{'https' if self.secure else 'http'}://shop.example"
        self.endpoint.keys = [KEY, ApiKey(USER.username, USER.password)]
        self.endpoint.passwords = [USER]
        # WooCommerce's MCP was told to allow http; the other dialects cannot be.
        self.endpoint.require_https = "x-mcp-api-key" not in recorded.request.headers
        self.endpoint.rng = AsTheyLie()
        self.recorded = recorded

    def play(self, session_id: str | None) -> Answer:
        return self.send(self.recorded.request, session_id, secure=self.secure)

    def stock_brief(self, order: dict[str, Any]) -> None:
        """Put an order into the shop of which only some fields are known."""
        rows = order.get("line_items")
        modified = instant(order["date_modified_gmt"])
        created = instant(order["date_created_gmt"]) if "date_created_gmt" in order else modified
        order_id = self.shop.create_order(
            order_id=order["id"],
            total=None if rows else order["total"],
            lines=[_line(row) for row in rows] if rows else None,
            customer=Customer("Ольга", "Лебедева", "Тверь", "", "", order.get("billing_email") or "", ""),
            created=created,
        )
        for refund in order.get("refunds", ()):
            amount = -Decimal(refund["total"])
            self.shop.refund(order_id, amount, refund["reason"], refund_id=refund["id"])
        self.shop.hidden_status(order_id, order["status"])
        self.shop.touch(order_id, at=modified)
        if order.get("payment_method") == "":  # made through the API
            self.shop.distort(order_id, faults.with_values(payment_method="", payment_method_title=""))

    def stock_others(self, count: int, status: str, at: datetime) -> None:
        """Put orders of other pages into the shop."""
        for _ in range(count):
            self.shop.create_order(status, created=at)


def _line(row: dict[str, Any]) -> LineItem:
    price = Decimal(row["subtotal"]) / row["quantity"]
    return LineItem(Product(row["product_id"], row["name"], "", price), row["quantity"])


def _orders_in(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, list):
        return answer
    data = ((answer or {}).get("result", {}).get("structuredContent") or {}).get("data", {})
    orders: list[dict[str, Any]] = data.get("orders", [])
    return orders


def as_it_is(_stage: Stage) -> None:
    pass


def passwords(*known: AppPassword) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        stage.endpoint.passwords = list(known)

    return set_up


def another_secret(stage: Stage) -> None:
    stage.endpoint.keys = [ApiKey(USER.username, "another")]


def older_adapter(stage: Stage) -> None:
    stage.endpoint.adapter = "0.4.1"


def fault(trouble: faults.Fault, times: int = 1) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        for _ in range(times):
            stage.endpoint.faults.add(trouble)

    return set_up


def other_pages(stage: Stage) -> None:
    """As many orders on the pages after this one as the recorded shop had, at least."""
    answer = json_in(stage.recorded.response.body)
    if isinstance(answer, list):
        total = int(stage.recorded.response.headers["x-wp-total"])
        return stage.stock_others(total - len(answer), "processing", stage.now + timedelta(days=30))
    data = answer["result"]["structuredContent"]["data"]
    requested = stage.recorded.request.json()["params"]["arguments"]["parameters"]
    ascending = requested.get("order") == "asc"
    count = (data["total_pages"] - data["page"]) * data["per_page"]
    at = stage.now + timedelta(days=30 if ascending else -400)
    return stage.stock_others(count, requested.get("status", "processing"), at)


def in_mid_tie(stage: Stage) -> None:
    """The first page of the tie, and those after the second."""
    for order in _orders_in(wire.load("abilities/bigtie-asc-20-p1").response.json()):
        stage.stock_brief(order)
    for order in _orders_in(stage.recorded.response.json()):
        stage.shop.delete(order["id"])
        stage.stock_brief(order)
    other_pages(stage)


def a_notice_twice(stage: Stage) -> None:
    other_pages(stage)
    fault(faults.php_notice(), times=2)(stage)


def a_currency_that_nobody_knows(stage: Stage) -> None:
    tie = instant("2026-12-05T12:00:00")
    for number in range(63):
        created = stage.now - timedelta(days=number)
        order_id = stage.shop.create_order("processing", created=created, modified=tie)
        if number == 59:
            stage.shop.distort(order_id, faults.with_values(currency="XBT"))


# What the recorded shop was like, where that is more than the orders of the answer.
SET_UP: dict[str, Callable[[Stage], None]] = {
    "abilities/bigtie-asc-20-p1": other_pages,
    "abilities/bigtie-asc-20-p2": in_mid_tie,
    "abilities/default": other_pages,
    "abilities/st1": other_pages,
    "abilities/fail-fatal": fault(faults.php_fatal("Call to undefined function rig_no_such_function()")),
    "abilities/fail-notice": a_notice_twice,
    "abilities/fail-oom": fault(faults.out_of_memory()),
    "abilities/maintenance": fault(faults.maintenance()),
    "abilities/init-wrong-password": passwords(AppPassword(USER.username, "another")),
    "abilities/init-wc-keys": passwords(AppPassword("somebody", "else")),
    "abilities/query-customer": passwords(AppPassword(USER.username, USER.password, can_view=False)),
    "abilities/unknown-currency-page": a_currency_that_nobody_knows,
    "abilities/v041-unknown-session": older_adapter,
    "rest-v3/v3-_fields": other_pages,
    "rest-v3/v3-https-badsecret": another_secret,
}
# Sessions that the recorded shop did not know either: their ids are sent as they were recorded.
FOREIGN_SESSIONS = {
    "abilities/unknown-session",
    "abilities/v041-unknown-session",
    "abilities/init-with-foreign-session",
}
# A header that only a shop in WP_DEBUG has.
DEBUG = "x-wp-doingitwrong"


@pytest.mark.parametrize("name", RECORDINGS)
def test_answers_as_recorded(name: str) -> None:
    recorded = wire.load(name)
    recorded.response.headers.pop(DEBUG, None)
    stage = Stage(recorded)
    theirs = json_in(recorded.response.body)
    for order in _orders_in(theirs):
        stage.stock_brief(order)
    _hide_some(stage)
    session_id = None
    if "mcp-session-id" in recorded.request.headers and name not in FOREIGN_SESSIONS:
        session_id = stage.endpoint.sessions.open(USER.user)
    SET_UP.get(name, as_it_is)(stage)

    answer = stage.play(session_id)

    assert answer.status == recorded.response.status
    ours = json_in(answer.body)
    assert _without_row_ids(ours) == _without_row_ids(theirs)
    if b"line_items" not in answer.body:
        # The order of members, and the way that PHP writes them.
        assert answer.body.endswith(recorded.response.body[-len(php_json(theirs)) :])
    compare_headers(answer, recorded.response, stage.now)


def _hide_some(stage: Stage) -> None:
    """What no recorded listing shows: the trash, a draft of the editor's, a status of nobody's."""
    late = stage.now + timedelta(days=60)
    for status in ("trash", "auto-draft", "left-by-a-plugin"):
        stage.shop.create_order(status, created=stage.now, modified=late)


def _without_row_ids(answer: Any) -> Any:
    plain = json.loads(json.dumps(answer))
    for order in _orders_in(plain):
        for row in order.get("line_items", ()):
            row["id"] = 0
    if _orders_in(plain) and isinstance(plain, dict):
        # What it says twice was compared byte for byte, but for the rows' ids.
        plain["result"]["content"] = len(plain["result"]["content"])
    return plain


def test_every_set_up_has_its_recording() -> None:
    assert {*SET_UP, *FOREIGN_SESSIONS} <= set(RECORDINGS)


@pytest.mark.parametrize(
    ("name", "topic"), [("webhook/webhook-02", "order.created"), ("webhook/webhook-05", "order.updated")]
)
def test_a_webhook_delivers_an_order_as_recorded(name: str, topic: Topic) -> None:
    recorded = wire.request(name)
    theirs = recorded.json()
    scene = Scene(instant(theirs["date_modified_gmt"]))
    scene.stock(theirs)
    hook = int(recorded.headers["x-wc-webhook-id"])
    headers, body = delivery(scene.shop, theirs["id"], topic, "secret", webhook_id=hook)
    assert comparable(json.loads(body)) == comparable(theirs)
    _compare_webhook(headers, recorded)


def test_a_webhook_tells_of_a_deleted_order_by_its_id() -> None:
    recorded = wire.request("webhook/webhook-07")
    scene = Scene(instant("2026-11-23T02:03:00"))
    headers, body = delivery(scene.shop, 320, "order.deleted", "secret", webhook_id=3)
    assert body == recorded.body
    _compare_webhook(headers, recorded)


def test_a_webhook_begins_with_a_ping() -> None:
    recorded = wire.request("webhook/webhook-01")
    headers, body = ping(1)
    assert body == recorded.body
    _compare_webhook(headers, recorded)


def _compare_webhook(headers: dict[str, str], recorded: wire.Message) -> None:
    """All of the headers, but for those that no two deliveries share and those of the connection."""
    ours = {name.lower(): value for name, value in headers.items()}
    assert ours.keys() == recorded.headers.keys() - {"host", "connection", "content-length"}
    for name in ours.keys() - {"x-wc-webhook-signature", "x-wc-webhook-delivery-id"}:
        assert ours[name] == recorded.headers[name], name
    for name in ours.keys() & {"x-wc-webhook-signature", "x-wc-webhook-delivery-id"}:
        assert len(ours[name]) == len(recorded.headers[name])
