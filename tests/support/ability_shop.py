"""The ability `woocommerce/orders-query` over a few orders: one bad order fails a page.

Seen on a real shop (tests/data/wire/abilities). It has no second key to sort by: which of the orders of one
second come first depends on how many are asked for.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from support.scripted_shop import Asked, Reply, answer, tool

REASON = "is not one of AED, AFN, ALL, AMD, ANG, AOA, ARS, AUD, AWG, AZN, and ZMW."


def raw(order_id: int, modified: str, *, status: str = "processing", created: str = "") -> dict[str, Any]:
    """An order as the ability shows it."""
    return {
        "id": order_id,
        "status": status,
        "currency": "RUB",
        "currency_symbol": "₽",
        "total": "100.00",
        "customer_id": 0,
        "billing_email": "anna@example.org",
        "date_created_gmt": created or modified,
        "date_modified_gmt": modified,
    }


@dataclass
class AbilityShop:
    """The shop.

    Attributes:
        orders: by id.
        bad: ids of the orders that fail every page that they are on.
        mute: the errors do not say where in the page the order stands.
        asked: the parameters of every question.
        no_such_order: how asking for an id that is not there fails; "" if the list is just empty.
        seed: how the orders of one second lie.
        chance: if given, they lie in another way at each question.
    """

    orders: dict[int, dict[str, Any]]
    bad: set[int] = field(default_factory=set)
    mute: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    no_such_order: str = ""
    seed: int = 7
    chance: random.Random | None = None

    @classmethod
    def of(
        cls, orders: Iterable[dict[str, Any]], bad: Iterable[int] = (), *, mute: bool = False
    ) -> "AbilityShop":
        return cls({order["id"]: order for order in orders}, set(bad), mute)

    def page(self, asked: dict[str, Any]) -> list[dict[str, Any]] | str:
        """The orders that are asked for, or the words of the failure."""
        self.asked.append(asked)
        excluded = set(asked.get("exclude", ()))
        listed = [order for order in self.orders.values() if order["id"] not in excluded]
        if "id" in asked:
            listed = [order for order in listed if order["id"] == asked["id"]]
            if not listed and self.no_such_order:
                return self.no_such_order
        if "status" in asked:
            listed = [order for order in listed if order["status"] == asked["status"]]
        for name, key, sign in (
            ("modified_after", "date_modified_gmt", 1),
            ("date_after", "date_created_gmt", 1),
            ("date_before", "date_created_gmt", -1),
        ):
            if name in asked:
                bound = _instant(asked[name].removesuffix("Z"))
                listed = [order for order in listed if sign * (_instant(order[key]) - bound) > 0]
        listed.sort(key=lambda order: self._whim(asked["per_page"], order["id"]))
        key = {"date": "date_created_gmt", "date_modified": "date_modified_gmt", "id": "id"}[asked["orderby"]]
        listed.sort(key=lambda order: order[key], reverse=asked["order"] == "desc")
        first = (asked.get("page", 1) - 1) * asked["per_page"]
        page = listed[first : first + asked["per_page"]]
        for place, order in enumerate(page):
            if order["id"] in self.bad:
                path = "" if self.mute else f"output[orders][{place}][currency] "
                return f'Ability "woocommerce/orders-query" has invalid output. Reason: {path}{REASON}'
        return page

    def _whim(self, per_page: int, order_id: int) -> float:
        return (self.chance or random.Random(f"{self.seed}/{per_page}/{order_id}")).random()

    def reply(self, asked: Asked) -> Any:
        """The answer to a tools/call."""
        page = self.page(asked.arguments["parameters"])
        if isinstance(page, str):
            return answer({"content": [{"type": "text", "text": page}], "isError": True})(asked)
        return abilities(*page)(asked)


def abilities(*listed: object, **options: Any) -> Reply:
    """A list of orders as the ability gives it."""
    return tool({"success": True, "data": {"orders": list(listed), "page": 1, "total_pages": 1}}, **options)


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
