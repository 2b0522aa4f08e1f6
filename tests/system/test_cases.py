"""The cases of tests/data/cases from the shop's answer to the receiver: `run --once` tells what it should."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.faults import Fault, Handler
from support import cases
from support.commands import Finished
from support.site import Site

REST, MCP = "rest", "woocommerce-mcp"


def lately() -> datetime:
    """Within the look-back, and long enough ago for everything to be written whole."""
    return datetime.now(UTC) - timedelta(minutes=5)


def asks_what_changed(request: Request) -> bool:
    """Not what was there before, which there is nothing of."""
    requested = f"{request.query} {request.body.decode()}"
    return "modified_after" in requested and "before" not in requested


def answering(listed: Callable[[], bytes]) -> Fault:
    """A shop whose REST API answers these bytes when it is asked what changed, else an empty list."""

    def act(request: Request, onward: Handler) -> Answer:
        body = listed() if asks_what_changed(request) and "exclude" not in request.query else b"[]"
        return replace(onward(request), body=body)

    return Fault("a case", act)


def returning(result: Callable[[], Any]) -> Fault:
    """A shop whose tool returns this to the question what changed."""

    def act(request: Request, onward: Handler) -> Answer:
        if not asks_what_changed(request) or b"exclude" in request.body:
            return onward(request)
        answer = onward(request)
        return replace(answer, body=json.dumps(json.loads(answer.body) | {"result": result()}).encode())

    return Fault("a case", act, "tools/call")


def told(site: Site) -> list[tuple[str, str, object, str]]:
    """Of each notification: the order, the event, whether all was given back, and the message."""
    return [
        (
            post.source_id,
            post.event,
            post.notification["data"].get("fully_refunded"),
            post.notification["message"],
        )
        for post in site.receiver.posts
    ]


NEW = ("new", None, "Заказ #2 на сумму 1930.00 ₽")
IN_RUB = ("new", None, "Заказ #2 на сумму 1930.00 RUB")
ALL_OF_IT = ("partially_refunded", True, "По заказу #2 возвращено 1930.00 ₽")

ONE_ORDER: dict[str, list[tuple[str, object, str]]] = {
    "trailing-junk/answer_a.body": [NEW],
    "trailing-junk/answer_b.body": [NEW],
    "trailing-junk/answer_c.body": [],
    "symbol-markup/order_a.json": [IN_RUB],
    "symbol-markup/order_b.json": [IN_RUB],
    "paid-date-odd/order_a.json": [NEW],
    "paid-date-odd/order_b.json": [NEW],
    "paid-date-odd/order_c.json": [NEW],
    "refund-of-nothing/order_a.json": [NEW],
    "refund-of-nothing/order_b.json": [NEW, ALL_OF_IT],
}


def once(site: Site, dialect: str) -> Finished:
    done = site.once(SHOP_DIALECT=dialect)
    assert done.code == 0, done.stderr
    assert site.status()["set_aside"] == {}
    return done


@pytest.mark.parametrize("name", ONE_ORDER)
def test_an_order_of_the_rest_api_is_told(site: Site, name: str) -> None:
    site.served.faults.add(answering(lambda: cases.raw(name, at=at)))
    at = lately()
    done = once(site, REST)
    assert told(site) == [("2", *event) for event in ONE_ORDER[name]]
    assert ("around its responses" in done.stderr) is name.startswith("trailing-junk")
    once(site, REST)
    assert len(site.receiver.posts) == len(ONE_ORDER[name])


def test_a_list_that_became_an_object_is_told(site: Site) -> None:
    at = lately()
    site.served.faults.add(answering(lambda: cases.raw("orders-map/answer.json", at=at)))
    once(site, REST)
    assert sorted(site.receiver.events) == [("1", "new"), ("3", "new")]


@pytest.mark.parametrize("file", ["a", "b", "c"])
def test_a_tools_list_in_another_place_is_told(site: Site, file: str) -> None:
    at = lately()
    site.served.faults.add(returning(lambda: cases.load(f"structured-list/{file}.json", at=at)))
    once(site, MCP)
    assert site.receiver.events == [("2", "new")]


def test_orders_next_to_one_that_is_deep_are_announced_and_it_too(site: Site) -> None:
    (order,) = cases.load("paid-date-odd/order_a.json", at=lately())
    deep = order | cases.load("deep-meta/item.json")
    listed = [order | {"id": 1}, deep, order | {"id": 3}]
    text = json.dumps({"data": listed})
    site.served.faults.add(
        returning(
            lambda: {"content": [{"type": "text", "text": text}], "structuredContent": {"data": listed}}
        )
    )
    once(site, MCP)
    assert sorted(site.receiver.events) == [("1", "new"), ("2", "new"), ("3", "new")]


def test_a_refund_that_was_made_just_now_is_told_by_one_run_too(site: Site) -> None:
    """It is held for a while, which the command waits for."""
    at = datetime.now(UTC)
    site.served.faults.add(
        Fault(
            "a case",
            lambda request, onward: replace(
                onward(request), body=cases.raw("refund-of-nothing/order_b.json", at=at)
            ),
        )
    )
    once(site, REST)
    assert told(site) == [("2", *NEW), ("2", *ALL_OF_IT)]


def test_what_the_shop_said_of_a_buyer_is_nowhere(site: Site) -> None:
    site.served.faults.add(answering(lambda: cases.raw("log-quotes-order/answer.body")))
    done = site.once(SHOP_DIALECT=REST)
    assert done.code == 3
    assert "Deprecated : x" in done.stderr
    everything = done.stdout + done.stderr + json.dumps(site.status()) + "\n".join(site.run("status").lines)
    for private in ("Vera", "Surname-X", "Street-X"):
        assert private not in everything
        assert not any(private.encode() in content for content, _ in site.files().values())


def test_a_custom_status_is_told_as_paid_and_check_warns(site: Site) -> None:
    at = lately()
    site.served.faults.add(
        Fault(
            "a case",
            lambda request, onward: replace(
                onward(request), body=cases.raw("unpaid-custom-status/order_a.json", at=at)
            ),
        )
    )
    (warning,) = (line for line in site.run("check", SHOP_DIALECT=REST).lines if "warning" in line)
    assert "pending-deposit (1 of the recent orders) counts as paid, but 1 of them has no date" in warning
    assert site.once(SHOP_DIALECT=REST, SHOP_UNPAID_STATUSES="pending-deposit").code == 0
    assert site.receiver.events == []
    assert site.once(SHOP_DIALECT=REST).code == 0
    assert site.receiver.events == [("2", "new")]
