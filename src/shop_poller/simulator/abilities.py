"""The tools of the plugin MCP Adapter, and the one ability behind them that lists orders."""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib.resources import files
from typing import Any

from shop_poller.simulator.keys import AppPassword
from shop_poller.simulator.listing import Listing, in_zone, select
from shop_poller.simulator.orders import JsonObject, SimulatedOrder
from shop_poller.simulator.rendering import ShopFace, order_json, unpadded
from shop_poller.simulator.routes import EXECUTE_ABILITY, ORDERS_QUERY
from shop_poller.simulator.schema import as_bool, as_int, as_list, first_complaint, parse_date
from shop_poller.simulator.shop import BUILT_IN_STATUSES, SimulatedShop
from shop_poller.simulator.site import Site
from shop_poller.simulator.tools import failure, invalid, success

DISCOVER = "mcp-adapter-discover-abilities"
_NOT_SIMULATED = ("customer_id", "billing_email", "parent")
_ORDER_BY = {"date": "date_created"}
_WITH_ZONE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})", re.ASCII)

_BRIEF = (
    "id",
    "status",
    "currency",
    "currency_symbol",
    "total",
    "customer_id",
    "billing_email",
    "payment_method",
    "payment_method_title",
    "date_created",
    "date_created_gmt",
    "date_modified",
    "date_modified_gmt",
)
_BRIEF_LINE = ("id", "name", "product_id", "variation_id", "quantity", "subtotal", "total")


class AbilityTools:
    """The three tools of the MCP Adapter: two describe abilities, one executes them.

    Args:
        site: The site. Abilities and tools that it has lost are not found.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def describe(self) -> list[JsonObject]:
        """The tools as `tools/list` shows them."""
        tools: list[JsonObject] = _recorded()["tools"]
        return tools

    def call(self, name: str, arguments: object, holder: AppPassword) -> JsonObject | None:
        """Call a tool.

        Args:
            name: The tool's name.
            arguments: The arguments of the call.
            holder: The password of the call.

        Returns:
            The result as JSON-RPC carries it, or None if there is no such tool.
        """
        tool = next((tool for tool in self.describe() if tool["name"] == name), None)
        if tool is None:
            return None
        if complaint := first_complaint(arguments, tool["inputSchema"]):
            return failure(invalid("input", name.replace("mcp-adapter-", "mcp-adapter/"), complaint))
        given: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
        known = [one for one in _recorded()["abilities"] if one["name"] not in self._site.lost_tools]
        if name == DISCOVER:
            return success({"abilities": known})
        ability = given["ability_name"]
        if ability not in [one["name"] for one in known]:
            return self._refused(f"Ability '{ability}' not found")
        return self._about(ability, name, given, holder)

    def _about(self, ability: str, tool: str, given: Mapping[str, Any], holder: AppPassword) -> JsonObject:
        if ability != ORDERS_QUERY:
            return failure(f"The simulator does not simulate {ability}.")
        if tool == EXECUTE_ABILITY:
            return self._query(given["parameters"] or {}, holder)
        return success(_orders_query(self._site.shop))

    def _query(self, parameters: Mapping[str, Any], holder: AppPassword) -> JsonObject:
        if not holder.can_view:
            return self._denied()
        shop = self._site.shop
        ability = _orders_query(shop)
        if complaint := first_complaint(parameters, ability["input_schema"]):
            return failure(invalid("input", ORDERS_QUERY, complaint))
        if missing := [name for name in _NOT_SIMULATED if name in parameters]:
            return failure(f"The simulator does not simulate {', '.join(missing)}.")
        if "id" in parameters and not shop.has(as_int(parameters["id"])):
            return failure("Order not found.")
        data = self._run(_read(parameters, shop))
        # One order that does not fit the schema makes the whole page fail.
        if complaint := first_complaint(data, ability["output_schema"], "output"):
            return failure(invalid("output", ORDERS_QUERY, complaint))
        return success({"success": True, "data": data})

    @property
    def _is_bundled(self) -> bool:
        return self._site.adapter == "0.3.0"

    def _denied(self) -> JsonObject:
        text = "Permission denied"
        return failure(f"{text}: Access denied for tool: {EXECUTE_ABILITY}" if self._is_bundled else text)

    def _refused(self, why: str) -> JsonObject:
        # The old copy detects this when it checks the rights *(read)*.
        return failure(f"Permission denied: {why}" if self._is_bundled else why)

    def _run(self, query: "_OrdersQuery") -> JsonObject:
        shop = self._site.shop
        # The database promises no order within a tie, and may change it between two pages, so an order
        # may be missed.
        rows = shop.orders
        self._site.rng.shuffle(rows)
        found = select(rows, query.listing, shop.paging)
        return {
            "orders": [_brief_json(order, shop.face, line_items=query.line_items) for order in found.orders],
            # Beyond the last page, the number of pages is missing.
            "total_pages": found.pages if found.orders else 0,
            "page": query.page,
            "per_page": query.listing.per_page,
        }


@dataclass(frozen=True)
class _OrdersQuery:
    listing: Listing
    page: int
    line_items: bool


def _read(parameters: Mapping[str, Any], shop: SimulatedShop) -> _OrdersQuery:
    by_id = "id" in parameters
    page = as_int(parameters.get("page", 1))
    per_page = 1 if by_id else as_int(parameters.get("per_page", 10))
    order_by = parameters.get("orderby", "date")

    def modified(name: str) -> datetime | None:
        return _modified_bound(parameters[name], shop.zone) if name in parameters else None

    def created(name: str) -> datetime | None:
        return _created_bound(parameters[name], shop.zone) if name in parameters else None

    listing = Listing(
        statuses=frozenset([parameters["status"]] if "status" in parameters else _listed(shop)),
        per_page=per_page,
        skip=(page - 1) * per_page,
        order_by=_ORDER_BY.get(order_by, order_by),
        descending=parameters.get("order", "desc") == "desc",
        include=(as_int(parameters["id"]),) if by_id else (),
        exclude=frozenset(as_int(item) for item in as_list(parameters.get("exclude", []))),
        created_after=created("date_after"),
        created_before=created("date_before"),
        created_before_is_inclusive="date_after" in parameters,
        modified_after=modified("modified_after"),
        modified_before=modified("modified_before"),
    )
    return _OrdersQuery(listing, page, as_bool(parameters.get("include_line_items", False)))


def _created_bound(text: str, zone: tzinfo) -> datetime:
    """Read `date_after` or `date_before`: its wall clock in the shop's zone is used as UTC.

    So a time without a zone is UTC, and one with a zone is off by the shop's own offset.
    """
    date = parse_date(text)
    return in_zone(date if date.tzinfo is None else date.astimezone(zone), UTC)


def _modified_bound(text: str, zone: tzinfo) -> datetime:
    """Read `modified_*`: with its own zone if it has exactly this form, else by the shop's clock."""
    date = parse_date(text)
    # WooCommerce knows one form with a zone. PHP reads all others, and its wall clock in UTC is used as
    # the shop's. With a fraction of a second or a space, the `Z` has no effect.
    if _WITH_ZONE.fullmatch(text):
        return date.astimezone(UTC)
    wall = date if date.tzinfo is None else date.astimezone(UTC)
    return in_zone(wall, zone)


def _listed(shop: SimulatedShop) -> tuple[str, ...]:
    """Return the statuses that are listed: no drafts, no trash, no unregistered ones."""
    return (*BUILT_IN_STATUSES, *shop.custom_statuses)


def _orders_query(shop: SimulatedShop) -> JsonObject:
    """The ability's description; its schemas name this shop's statuses."""
    return _orders_query_of(shop.custom_statuses)


@cache
def _orders_query_of(custom_statuses: tuple[str, ...]) -> JsonObject:
    ability: JsonObject = copy.deepcopy(_recorded()["orders_query"])
    ability["input_schema"]["properties"]["status"]["enum"] = [*BUILT_IN_STATUSES, *custom_statuses]
    order = ability["output_schema"]["properties"]["orders"]["items"]["properties"]
    order["status"]["enum"] += custom_statuses
    return ability


def _brief_json(order: SimulatedOrder, face: ShopFace, *, line_items: bool) -> object:
    """Show an order as the ability does: without name, number, payment or refunds.

    A distortion of the order affects the fields that remain.
    """
    whole = order_json(order, face, links=False)
    if not isinstance(whole, dict):
        return whole
    billing = whole.get("billing")
    email = billing.get("email") if isinstance(billing, dict) else None
    fields = {**whole, "billing_email": email or None}
    brief = {name: fields[name] for name in _BRIEF if name in fields}
    rows = whole.get("line_items")
    if line_items and isinstance(rows, list):
        brief["line_items"] = [_brief_line(row) for row in rows]
    return brief


def _brief_line(row: object) -> object:
    if not isinstance(row, dict):
        return row
    brief = {name: row[name] for name in _BRIEF_LINE if name in row}
    # These two are sent as the database has them: 646.5, where the REST API says 646.50.
    for name in {"subtotal", "total"} & brief.keys():
        brief[name] = unpadded(brief[name])
    return brief


@cache
def _recorded() -> JsonObject:
    text = files("shop_poller.simulator").joinpath("abilities.json").read_text(encoding="utf-8")
    recorded: JsonObject = json.loads(text)
    return recorded
