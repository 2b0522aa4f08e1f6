"""The simulated shop against the recordings of a real one: what it answers to the same requests."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import php_json
from support import wire
from support.recorded_shop import (
    KEY,
    Scene,
    comparable,
    compare_headers,
    customer_of,
    instant,
    json_in,
    line,
    shape,
    words_outside_json,
)

RECORDINGS = [name for folder in ("session", "orders", "errors") for name in wire.names(folder)]


def newer_orders(count: int) -> Callable[[Scene], None]:
    def set_up(scene: Scene) -> None:
        for _ in range(count):
            scene.shop.create_order(created=scene.now)

    return set_up


def as_it_is(_scene: Scene) -> None:
    pass


def bystanders(scene: Scene) -> None:
    """Orders that were in the recorded shop, too, and that its answers leave out."""
    long_ago, now = scene.now - timedelta(days=400), scene.now
    scene.shop.create_order("processing", created=long_ago, order_id=1)
    # Newer than any listed one, and yet not listed: that is how the trash and drafts show.
    scene.shop.create_order("auto-draft", created=now, modified=long_ago, order_id=900)
    scene.shop.trash(scene.shop.create_order(created=now, order_id=901), at=long_ago)


def expire(scene: Scene) -> None:
    scene.now += timedelta(hours=24, seconds=1)


def fault(trouble: faults.Fault) -> Callable[[Scene], None]:
    return lambda scene: scene.endpoint.faults.add(trouble)


def key(**changes: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.change_key(**changes)


def https_only(scene: Scene) -> None:
    scene.endpoint.require_https = True


def plain_permalinks(scene: Scene) -> None:
    scene.shop.plain_permalinks = True
    bystanders(scene)


# What the recorded shop was like, where that is more than the orders of the answer.
SET_UP: dict[str, Callable[[Scene], None]] = {
    "session/batch": newer_orders(99),
    "session/session-expired": expire,
    "orders/status-Ltrash": newer_orders(3),
    "orders/page-beyond": newer_orders(300),
    "orders/list-1": bystanders,
    "orders/unknown-param": bystanders,
    "orders/modified_after-gmt": bystanders,
    "orders/modified_after-local-Z": bystanders,
    "orders/Z-with-gmt-shifted": bystanders,
    "errors/customer-list": key(can_view=False),
    "errors/ghost": key(user_exists=False),
    "errors/write-key-list": key(permissions="write"),
    "errors/http-no-filter": https_only,
    "errors/plain-permalinks": plain_permalinks,
    "errors/feature-off": fault(faults.feature_off()),
    "errors/maintenance": fault(faults.maintenance()),
    "errors/maintenance-html": fault(faults.maintenance(html=True)),
    "errors/db-down": fault(faults.database_down()),
    "errors/php-fatal": fault(faults.php_fatal("Call to undefined function rig_no_such_function()")),
    "errors/php-notice": fault(faults.php_notice()),
}
# Sessions that the recorded shop did not know either: their ids are sent as they were recorded.
FOREIGN_SESSIONS = {"session/unknown-session", "session/init-bogus-sid"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_answers_as_recorded(name: str) -> None:
    recorded = wire.load(name)
    scene = Scene(parsedate_to_datetime(recorded.response.headers["date"]))
    for order in _orders_in(json_in(recorded.response.body)):
        scene.stock(order)
    session_id = None
    if "mcp-session-id" in recorded.request.headers and name not in FOREIGN_SESSIONS:
        session_id = scene.endpoint.sessions.open(KEY.user)
    SET_UP.get(name, as_it_is)(scene)

    answer = scene.send(recorded.request, session_id)

    assert answer.status == recorded.response.status
    compare_headers(answer, recorded.response, scene.now)
    ours, theirs = json_in(answer.body), json_in(recorded.response.body)
    assert shape(ours) == shape(theirs)
    assert comparable(ours) == comparable(theirs)
    assert words_outside_json(answer.body) == words_outside_json(recorded.response.body)


def test_every_set_up_has_its_recording() -> None:
    assert {*SET_UP, *FOREIGN_SESSIONS} <= set(RECORDINGS)


@pytest.mark.parametrize("name", RECORDINGS)
def test_writes_json_as_php_does(name: str) -> None:
    body = wire.load(name).response.body
    if (data := json_in(body)) is not None:
        assert body.endswith(php_json(data).encode())


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_data_stand_twice_in_a_result(name: str) -> None:
    for result in _results_in(json_in(wire.load(name).response.body)):
        if not result.get("isError"):
            assert result["content"][0]["text"] == php_json(result["structuredContent"])


@pytest.mark.parametrize("status", wire.orders_by_status())
def test_shows_an_order_of_each_status_as_recorded(status: str) -> None:
    theirs = wire.orders_by_status()[status]
    scene = Scene(instant(theirs["date_modified_gmt"]))
    scene.shop.url = "https://shop.example"
    if theirs["created_via"] == "rest-api":
        pytest.skip("made through the API, without payment or shipping: the others were not")
    scene.stock(theirs)
    (ours,) = scene.caller.listing(include=[theirs["id"]])
    assert shape(ours) == shape(theirs)
    assert comparable(ours) == comparable(theirs)


def test_lives_an_order_s_life_as_recorded() -> None:
    """The model's own rules, step by step, against the recorded order after each step."""

    def at(clock: str) -> datetime:
        return instant(f"2026-11-23T{clock}")

    def recorded(name: str) -> dict[str, Any]:
        order: dict[str, Any] = wire.load(f"orders/{name}").response.json()["result"]["structuredContent"]
        return order

    start = recorded("start")
    scene = Scene(at("02:01:02"))
    shop = scene.shop
    shop.create_order(
        order_id=start["id"],
        lines=[line(row) for row in start["line_items"]],
        customer=customer_of(start["billing"]),
        created=at("02:01:02"),
    )

    def backdate(day: int) -> None:
        shop.touch(start["id"], at=datetime(2026, 11, day, tzinfo=UTC))

    def check(name: str) -> None:
        theirs = recorded(name)
        ours = scene.caller.get(start["id"])
        # The recording's author also edited what the buyer wrote and saved meta data.
        edited = {"customer_note": theirs["customer_note"]}
        assert comparable({**ours, **edited}) == comparable(theirs), name

    backdate(1)
    check("start")
    shop.set_status(start["id"], "processing", at=at("02:01:05"))
    check("status-change")
    backdate(2)
    shop.note(start["id"])
    check("note")
    refund_id = shop.refund(start["id"], 10, "Возврат из rig", at=at("02:01:11"), refund_id=317)
    check("partial-refund")
    backdate(3)
    shop.delete_refund(start["id"], refund_id)
    check("refund-deleted")
    shop.set_status(start["id"], "completed", at=at("02:01:19"))
    shop.trash(start["id"], at=at("02:01:21"))
    check("trashed")
    shop.restore(start["id"], at=at("02:01:22"))
    shop.refund(start["id"], None, "Возврат из rig", at=at("02:01:23"), refund_id=318)
    check("full-refund")


def test_an_order_that_is_set_to_refunded_gives_back_the_rest() -> None:
    answer = wire.load("orders/unknown-param").response.json()
    (theirs,) = (order for order in _orders_in(answer) if order["status"] == "refunded")
    scene = Scene(instant(theirs["date_modified_gmt"]))
    order_id = scene.shop.create_order(total=theirs["total"])
    scene.shop.set_status(order_id, "refunded")
    ours = scene.caller.get(order_id)
    assert [(row["reason"], row["total"]) for row in ours["refunds"]] == [
        (row["reason"], row["total"]) for row in theirs["refunds"]
    ]


def test_lists_the_tools_as_recorded() -> None:
    names = json.loads((wire.WIRE / "session/tools-list.json").read_text())["names"]
    described = json.loads((wire.WIRE / "orders/input-schemas.json").read_text())
    scene = Scene(datetime(2026, 11, 23, tzinfo=UTC))
    tools = scene.caller.rpc("tools/list")["tools"]
    assert [tool["name"] for tool in tools] == names
    by_name = {tool["name"]: tool for tool in tools}
    assert {name: by_name[name] for name in described} == described


def _results_in(answer: Any) -> list[dict[str, Any]]:
    messages = answer if isinstance(answer, list) else [answer or {}]
    return [message["result"] for message in messages if "content" in message.get("result", {})]


def _orders_in(answer: Any) -> list[dict[str, Any]]:
    orders: list[dict[str, Any]] = []
    for result in _results_in(answer):
        data = result.get("structuredContent", {})
        listed = data["data"] if isinstance(data.get("data"), list) else [data]
        orders += [order for order in listed if "order_key" in order]
    return orders
