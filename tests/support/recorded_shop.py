"""The simulated shop in the state that the recorded one was in, and what of two answers is compared."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.goods import Customer, LineItem, Product
from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.shop import SimulatedShop
from support import wire
from support.simulated import Caller

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

    def send(self, message: wire.Message, session_id: str | None = None, *, secure: bool = False) -> Answer:
        headers = dict(message.headers)
        if session_id is not None:
            headers["mcp-session-id"] = session_id
        path, _, query = message.path.partition("?")
        return self.endpoint.answer(Request(message.method, path, headers, message.body, query, secure))

    def change_key(self, **changes: Any) -> None:
        self.endpoint.keys = [replace(KEY, **changes)]

    def stock(self, order: dict[str, Any]) -> None:
        """Put a recorded order into the shop, with all that can be known of it."""
        status = _old_status(order)
        modified = instant(order["date_modified_gmt"])
        paid, completed = order["date_paid_gmt"], order["date_completed_gmt"]
        order_id = self.shop.create_order(
            # The dates below come from the recording alone, not from the model's own rules.
            "pending",
            order_id=order["id"],
            lines=[line(row) for row in order["line_items"]],
            customer=customer_of(order["billing"]),
            customer_note=order["customer_note"],
            created=instant(order["date_created_gmt"]),
            paid=instant(paid) if paid else None,
            completed=instant(completed) if completed else None,
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


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def line(row: dict[str, Any]) -> LineItem:
    product = Product(row["product_id"], row["name"], row["sku"], Decimal(str(row["price"])))
    return LineItem(product, row["quantity"])


def customer_of(billing: dict[str, str]) -> Customer:
    names = ("first_name", "last_name", "city", "address_1", "postcode", "email", "phone")
    return Customer(**{name: billing[name] for name in names})


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


def compare_headers(answer: Answer, recorded: wire.Message, now: datetime) -> None:
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


def comparable(value: Any) -> Any:
    """The same value without what is random: ids of rows, keys, values of meta data."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: comparable(member) for name, member in value.items()}
    if "content" in plain and "structuredContent" in plain:
        plain["content"] = comparable(json.loads(value["content"][0]["text"]))
    if "order_key" in plain:
        plain["payment_url"] = plain["payment_url"].replace(plain["order_key"], "KEY")
        plain["order_key"] = _letters_and_digits(plain["order_key"].lower())[:9]
        # The order of the rows matters, and what the trash wrote; other values are random.
        plain["meta_data"] = [
            (row["key"], row["value"] if "trash" in row["key"] else "")
            for row in plain["meta_data"]
            if "trash" in row["key"] or row["key"] == "delivery_point"
        ]
        for row in plain["line_items"] + plain["shipping_lines"]:
            row["id"] = 0
    return plain


def json_in(body: bytes) -> Any:
    """The JSON of a body, also after a PHP notice; None if there is none."""
    start = _start_of_json(body)
    return json.loads(body[start:]) if start < len(body) else None


def _start_of_json(body: bytes) -> int:
    start = re.search(rb'[{\[]"|\[\{', body)
    return len(body) if start is None or body.startswith(b"<!") else start.start()


def words_outside_json(body: bytes) -> list[str]:
    """What a page or a notice says to a human, without what is peculiar to one server."""
    before = body[: _start_of_json(body)].decode()
    text = re.sub(r"(?s)<head>.*?</head>|<[^>]+>", " ", before)
    return [word for word in text.split() if word.isalpha()]
