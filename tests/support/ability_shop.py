"""The ability `woocommerce/orders-query` over a few orders: one bad order fails a page.

Seen on real shops (tests/data/wire/abilities and 2026-11). It has no second key to sort by: which of the
orders of one second come first depends on how many are asked for.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from support.scripted_shop import Reply, SentRequest, answer, tool

MASKED = "An error occurred while executing the tool."
"""All that the bundled adapter says, whatever the reason."""
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
        requested: the parameters of every question.
        masks: the errors do not say anything, as the bundled adapter's.
        down: every question fails, as without a database.
        throws: bad orders make PHP throw an exception instead of breaking the output's rules.
        no_such_order: how asking for an id that is not there fails; "" if the list is just empty.
        zone: the shop's time zone.
        seed: how the orders of one second lie.
        order_random: if given, they lie in another way at each question.
    """

    orders: dict[int, dict[str, Any]]
    bad: set[int] = field(default_factory=set)
    mute: bool = False
    requested: list[dict[str, Any]] = field(default_factory=list)
    masks: bool = False
    down: bool = False
    throws: bool = False
    no_such_order: str = "Order not found."
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    seed: int = 7
    order_random: random.Random | None = None

    @classmethod
    def of(
        cls, orders: Iterable[dict[str, Any]], bad: Iterable[int] = (), *, mute: bool = False
    ) -> "AbilityShop":
        return cls({order["id"]: order for order in orders}, set(bad), mute)

    def page(self, requested: dict[str, Any]) -> list[dict[str, Any]] | str:
        """The orders that are asked for, or the words of the failure."""
        self.requested.append(requested)
        if self.down:
            return MASKED if self.masks else "Error establishing a database connection"
        page = self._page(requested)
        return MASKED if self.masks and isinstance(page, str) else page

    def _page(self, requested: dict[str, Any]) -> list[dict[str, Any]] | str:
        listed = self.matching(requested)
        if "id" in requested and not listed and self.no_such_order:
            return self.no_such_order
        listed.sort(key=lambda order: self._whim(requested["per_page"], order["id"]))
        key = {"date": "date_created_gmt", "date_modified": "date_modified_gmt", "id": "id"}[
            requested["orderby"]
        ]
        listed.sort(key=lambda order: order[key], reverse=requested["order"] == "desc")
        first = (requested.get("page", 1) - 1) * requested["per_page"]
        page = listed[first : first + requested["per_page"]]
        for place, order in enumerate(page):
            if order["id"] in self.bad:
                if self.throws:
                    return 'Ability "woocommerce/orders-query" callback threw an exception: no currency'
                path = "" if self.mute else f"output[orders][{place}][currency] "
                return f'Ability "woocommerce/orders-query" has invalid output. Reason: {path}{REASON}'
        return page

    def matching(self, requested: dict[str, Any]) -> list[dict[str, Any]]:
        """The orders that are asked for, on all pages."""
        excluded = set(requested.get("exclude", ()))
        listed = [order for order in self.orders.values() if order["id"] not in excluded]
        if "id" in requested:
            listed = [order for order in listed if order["id"] == requested["id"]]
        if "status" in requested:
            listed = [order for order in listed if order["status"] == requested["status"]]
        if "modified_after" in requested:
            after = self._modified_bound(requested["modified_after"])
            listed = [order for order in listed if _instant(order["date_modified_gmt"]) > after]
        if "date_after" in requested:
            after = self._created_bound(requested["date_after"])
            listed = [order for order in listed if _instant(order["date_created_gmt"]) > after]
        if "date_before" in requested:
            before = self._created_bound(requested["date_before"]) + (1 if "date_after" in requested else 0)
            listed = [order for order in listed if _instant(order["date_created_gmt"]) < before]
        return listed

    def _modified_bound(self, text: str) -> float:
        """With a `Z` it is UTC, without it is the shop's own time."""
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=self.zone)).timestamp()

    def _created_bound(self, text: str) -> float:
        """Without a zone it is UTC; with a `Z` the shop reads its own wall clock's time as UTC."""
        instant = datetime.fromisoformat(text)
        wall_clock = instant.astimezone(self.zone) if instant.tzinfo else instant
        return wall_clock.replace(tzinfo=UTC).timestamp()

    def _whim(self, per_page: int, order_id: int) -> float:
        return (self.order_random or random.Random(f"{self.seed}/{per_page}/{order_id}")).random()

    def reply(self, requested: SentRequest) -> Any:
        """The answer to a tools/call."""
        question = requested.arguments["parameters"]
        page = self.page(question)
        if isinstance(page, str):
            return answer({"content": [{"type": "text", "text": page}], "isError": True})(requested)
        pages = -(-len(self.matching(question)) // question["per_page"])
        data = {"orders": page, "total_pages": pages, "page": 1, "per_page": question["per_page"]}
        return tool({"success": True, "data": data})(requested)


def abilities(*listed: object, **options: Any) -> Reply:
    """A list of orders as the ability gives it."""
    return tool({"success": True, "data": {"orders": list(listed), "page": 1, "total_pages": 1}}, **options)


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
