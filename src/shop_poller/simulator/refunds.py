"""WooCommerce's list of refunds: GET `…/wc/v3/refunds`, from WooCommerce 9.0 on *(read)*.

Written from the source of WC_REST_Refunds_Controller, not from a recording.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from urllib.parse import parse_qsl

from shop_poller.simulator import auth
from shop_poller.simulator.answers import Answer, Request, wordpress_error
from shop_poller.simulator.listing import in_zone
from shop_poller.simulator.orders import JsonObject, SimulatedOrder, SimulatedRefund
from shop_poller.simulator.rendering import money
from shop_poller.simulator.schema import as_bool, as_int, as_list, parse_date
from shop_poller.simulator.site import Site

ROUTE = "/wc/v3/refunds"
_ALLOW = "GET"
_MOST = 100


@dataclass(frozen=True)
class SimulatedRefundRow:
    """A refund and the order that it belongs to."""

    refund: SimulatedRefund
    order: SimulatedOrder


class SimulatedRefundList:
    """Answers requests for lists of refunds.

    Args:
        site: The site that it belongs to.

    Attributes:
        is_there: Whether the shop's version has the list at all.
        cap: The most rows of a page, whatever is requested, as set by a theme or a plugin; None is no cap.
        select: Takes the matching rows, sorted; its result is split into pages. For shops that omit or
            double rows.
        requested: The queries that were answered, in order.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.is_there = True
        self.cap: int | None = None
        self.select: Callable[[list[SimulatedRefundRow]], Sequence[SimulatedRefundRow]] = lambda rows: rows
        self.requested: list[dict[str, object]] = []

    def concerns(self, request: Request) -> bool:
        """Return whether a request is for the list of refunds."""
        route = str(_query(request).get("rest_route", request.path.partition("/wp-json")[2]))
        return self.is_there and route.rstrip("/") == ROUTE

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        method = request.method
        if method == "POST":
            method = str(_query(request).get("_method", method)).upper()
        if method != "GET":
            return self._site.no_route()
        holder = auth.for_rest(self._site, request)
        if isinstance(holder, Answer):
            return holder
        if not holder.can_view:
            error = wordpress_error("woocommerce_rest_cannot_view", "Sorry, you cannot list resources.", 403)
            return self._site.json(403, error, allow=_ALLOW)
        body = request.rpc if request.is_json and isinstance(request.rpc, dict) else {}
        return self._list({**_query(request), **body})

    def _list(self, params: dict[str, object]) -> Answer:
        self.requested.append(params)
        per_page = as_int(params.get("per_page", 10))
        if not 1 <= per_page <= _MOST:
            text = "Invalid parameter(s): per_page"
            return self._site.json(400, wordpress_error("rest_invalid_param", text, 400), allow=_ALLOW)
        rows = self.select(_matching(self._site.shop.orders, params, self._site.shop.zone))
        size = per_page if self.cap is None else min(per_page, self.cap)
        skip = (as_int(params.get("page", 1)) - 1) * size
        shown = [_json(row, self._site.shop.zone) for row in rows[skip : skip + size]]
        if fields := as_list(params.get("_fields", [])):
            shown = [{name: value for name, value in row.items() if name in fields} for row in shown]
        totals = {"X-WP-Total": str(len(rows)), "X-WP-TotalPages": str(math.ceil(len(rows) / size))}
        return self._site.json(200, shown, allow=_ALLOW, **totals)


def _query(request: Request) -> dict[str, object]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _matching(
    orders: list[SimulatedOrder], params: dict[str, object], zone: tzinfo
) -> list[SimulatedRefundRow]:
    """Return the rows that match a query, sorted; the bounds are exclusive."""
    in_gmt = as_bool(params.get("dates_are_gmt", False))

    def instant(name: str) -> datetime | None:
        if name not in params:
            return None
        date = parse_date(str(params[name]))
        wall = date if date.tzinfo is None else date.astimezone(zone)
        return in_zone(wall, UTC if in_gmt else zone)

    after, before = instant("after"), instant("before")
    exclude = {as_int(item) for item in as_list(params.get("exclude", []))}
    rows = [
        SimulatedRefundRow(refund, order)
        for order in orders
        for refund in order.refunds
        if refund.id not in exclude
        and (after is None or refund.created > after)
        and (before is None or refund.created < before)
    ]
    rows.sort(
        key=lambda row: (row.refund.created, row.refund.id), reverse=params.get("order", "desc") != "asc"
    )
    return rows


def _json(row: SimulatedRefundRow, zone: tzinfo) -> JsonObject:
    created = row.refund.created
    return {
        "id": row.refund.id,
        "parent_id": row.order.id,
        "date_created": created.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S"),
        "date_created_gmt": created.strftime("%Y-%m-%dT%H:%M:%S"),
        "amount": money(row.refund.amount),
        "reason": row.refund.reason,
        "refunded_by": 1,
        "refunded_payment": True,
        "meta_data": [],
        "line_items": [],
        "shipping_lines": [],
        "tax_lines": [],
        "fee_lines": [],
    }
