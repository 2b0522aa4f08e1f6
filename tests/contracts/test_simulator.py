"""The simulated shop against the recordings of a real one: what it answers to the same requests."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, Request, php_json
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.goods import Customer, Line, Product
from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.shop import SimulatedShop
from support import wire
from support.simulated import Caller

RECORDINGS = [name for folder in ("session", "orders", "errors") for name in wire.names(folder)]
KEY = ApiKey("ck_" + "0" * 40, "cs_" + "0" * 40)
# What the web server and the way of recording put there, not WordPress.
TRANSPORT = {"server", "date", "content-type", "transfer-encoding", "connection", "content-length"}


class Scene:
    """A shop in the state that the recorded one was in, and its clock."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.shop = SimulatedShop(lambda: self.now, url="http://shop.example", first_id=1)
        self.endpoint = Endpoint(self.shop, keys=[KEY])
        self.caller = Caller(self.endpoint, KEY)

    def send(self, message: wire.Message, session_id: str | None) -> Answer:
        headers = dict(message.headers)
        if session_id is not None:
            headers["mcp-session-id"] = session_id
        return self.endpoint.answer(Request(message.method, message.path, headers, message.body))

    def change_key(self, **changes: Any) -> None:
        self.endpoint.keys = [replace(KEY, **changes)]

    def stock(self, order: dict[str, Any]) -> None:
        """Put a recorded order into the shop, with all that can be known of it."""
        status = _old_status(order)
        modified = _instant(order["date_modified_gmt"])
        paid, completed = order["date_paid_gmt"], order["date_completed_gmt"]
        order_id = self.shop.create_order(
            # The dates below come from the recording alone, not from the model's own rules.
            "pending",
            order_id=order["id"],
            lines=[_line(row) for row in order["line_items"]],
            customer=_customer(order["billing"]),
            customer_note=order["customer_note"],
            created=_instant(order["date_created_gmt"]),
            paid=_instant(paid) if paid else None,
            completed=_instant(completed) if completed else None,
        )
        for refund in order["refunds"]:
            amount = -Decimal(refund["total"])
            self.shop.refund(order_id, amount, refund["reason"], refund_id=refund["id"])
        self.shop.hidden_status(order_id, status)
        self.shop.touch(order_id, at=modified)
        if order["status"] == "trash":
            self.shop.trash(order_id, at=modified)


def _old_status(order: dict[str, Any]) -> str:
    meta = {row["key"]: row["value"] for row in order["meta_data"]}
    status: str = meta.get("_wp_trash_meta_status", order["status"])
    return status.removeprefix("wc-")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _line(row: dict[str, Any]) -> Line:
    product = Product(row["product_id"], row["name"], row["sku"], Decimal(str(row["price"])))
    return Line(product, row["quantity"])


def _customer(billing: dict[str, str]) -> Customer:
    names = ("first_name", "last_name", "city", "address_1", "postcode", "email", "phone")
    return Customer(**{name: billing[name] for name in names})


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
    for order in _orders_in(_json(recorded.response.body)):
        scene.stock(order)
    session_id = None
    if "mcp-session-id" in recorded.request.headers and name not in FOREIGN_SESSIONS:
        session_id = scene.endpoint.sessions.open(KEY.user)
    SET_UP.get(name, as_it_is)(scene)

    answer = scene.send(recorded.request, session_id)

    assert answer.status == recorded.response.status
    _compare_headers(answer, recorded.response, scene.now)
    ours, theirs = _json(answer.body), _json(recorded.response.body)
    assert shape(ours) == shape(theirs)
    assert _comparable(ours) == _comparable(theirs)
    assert _words_outside_json(answer.body) == _words_outside_json(recorded.response.body)


def test_every_set_up_has_its_recording() -> None:
    assert {*SET_UP, *FOREIGN_SESSIONS} <= set(RECORDINGS)


@pytest.mark.parametrize("name", RECORDINGS)
def test_writes_json_as_php_does(name: str) -> None:
    body = wire.load(name).response.body
    if (data := _json(body)) is not None:
        assert body.endswith(php_json(data).encode())


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_data_stand_twice_in_a_result(name: str) -> None:
    for result in _results_in(_json(wire.load(name).response.body)):
        if not result.get("isError"):
            assert result["content"][0]["text"] == php_json(result["structuredContent"])


@pytest.mark.parametrize("status", wire.orders_by_status())
def test_shows_an_order_of_each_status_as_recorded(status: str) -> None:
    theirs = wire.orders_by_status()[status]
    scene = Scene(_instant(theirs["date_modified_gmt"]))
    scene.shop.url = "https://shop.example"
    if theirs["created_via"] == "rest-api":
        pytest.skip("made through the API, without payment or shipping: the others were not")
    scene.stock(theirs)
    (ours,) = scene.caller.listing(include=[theirs["id"]])
    assert shape(ours) == shape(theirs)
    assert _comparable(ours) == _comparable(theirs)


def test_lives_an_order_s_life_as_recorded() -> None:
    """The model's own rules, step by step, against the recorded order after each step."""

    def at(clock: str) -> datetime:
        return _instant(f"2026-11-23T{clock}")

    def recorded(name: str) -> dict[str, Any]:
        order: dict[str, Any] = wire.load(f"orders/{name}").response.json()["result"]["structuredContent"]
        return order

    start = recorded("start")
    scene = Scene(at("02:01:02"))
    shop = scene.shop
    shop.create_order(
        order_id=start["id"],
        lines=[_line(row) for row in start["line_items"]],
        customer=_customer(start["billing"]),
        created=at("02:01:02"),
    )

    def backdate(day: int) -> None:
        shop.touch(start["id"], at=datetime(2026, 11, day, tzinfo=UTC))

    def check(name: str) -> None:
        theirs = recorded(name)
        ours = scene.caller.get(start["id"])
        # The recording's author also edited what the buyer wrote and saved meta data.
        edited = {"customer_note": theirs["customer_note"]}
        assert _comparable({**ours, **edited}) == _comparable(theirs), name

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
    scene = Scene(_instant(theirs["date_modified_gmt"]))
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


def shape(value: object) -> object:
    """What keys there are and of which JSON types, all the way down."""
    match value:
        case dict():
            return {key: shape(member) for key, member in value.items()}
        case list():
            return {repr(shape(item)) for item in value}
        case bool() | None | str():
            return type(value).__name__
        case _:
            return "number"


def _compare_headers(answer: Answer, recorded: wire.Message, now: datetime) -> None:
    ours = {name.lower(): value for name, value in answer.headers.items()}
    assert ours.keys() - TRANSPORT == recorded.headers.keys() - TRANSPORT
    assert ours["content-type"] == recorded.headers["content-type"]
    assert parsedate_to_datetime(ours["date"]) == now
    for name in ours.keys() - TRANSPORT - {"mcp-session-id"}:
        assert ours[name] == recorded.headers[name], name
    if "mcp-session-id" in ours:
        assert _letters_and_digits(ours["mcp-session-id"]) == _letters_and_digits(
            recorded.headers["mcp-session-id"]
        )


def _letters_and_digits(text: str) -> str:
    return re.sub("[0-9a-f]", "x", text)


def _comparable(value: Any) -> Any:
    """The same value without what is made up by chance: ids of rows, keys, values of meta data."""
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _comparable(member) for name, member in value.items()}
    if "content" in plain and "structuredContent" in plain:
        plain["content"] = _comparable(json.loads(value["content"][0]["text"]))
    if "order_key" in plain:
        plain["payment_url"] = plain["payment_url"].replace(plain["order_key"], "KEY")
        plain["order_key"] = _letters_and_digits(plain["order_key"].lower())[:9]
        # The order of the rows matters, and what the trash wrote; other values are chance.
        plain["meta_data"] = [
            (row["key"], row["value"] if "trash" in row["key"] else "")
            for row in plain["meta_data"]
            if "trash" in row["key"] or row["key"] == "delivery_point"
        ]
        for row in plain["line_items"] + plain["shipping_lines"]:
            row["id"] = 0
    return plain


def _json(body: bytes) -> Any:
    """The JSON of a body, also after a PHP notice; None if there is none."""
    start = _start_of_json(body)
    return json.loads(body[start:]) if start < len(body) else None


def _start_of_json(body: bytes) -> int:
    start = re.search(rb'[{\[]"|\[\{', body)
    return len(body) if start is None or body.startswith(b"<!") else start.start()


def _words_outside_json(body: bytes) -> list[str]:
    """What a page or a notice says to a human, without what is peculiar to one server."""
    before = body[: _start_of_json(body)].decode()
    text = re.sub(r"(?s)<head>.*?</head>|<[^>]+>", " ", before)
    return [word for word in text.split() if word.isalpha()]


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
