"""The tools that WooCommerce offers over MCP: their names and responses."""

import copy
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from shop_poller.simulator.answers import php_json, wordpress_error
from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.listing import NOT_SIMULATED, read_listing, select
from shop_poller.simulator.orders import JsonObject
from shop_poller.simulator.rendering import order_json, with_fields
from shop_poller.simulator.routes import ORDERS_LIST
from shop_poller.simulator.schema import Complaint, as_int, as_list, first_complaint
from shop_poller.simulator.shop import NoSuchOrderError, SimulatedShop

ORDERS_GET = "woocommerce-orders-get"


class Tools:
    """The tools of one shop: both reading tools of orders work, the others are only listed.

    Args:
        shop: The shop.
    """

    def __init__(self, shop: SimulatedShop) -> None:
        self._shop = shop

    def describe(self) -> list[JsonObject]:
        """The tools as `tools/list` shows them; the orders' schema names this shop's statuses."""
        own = {"inputSchema": listing_schema(self._shop)}
        return [{**tool, **own} if tool["name"] == ORDERS_LIST else tool for tool in _descriptions()]

    def call(self, name: str, arguments: object, key: ApiKey) -> JsonObject | None:
        """Call a tool.

        Args:
            name: The tool's name.
            arguments: The arguments of the call.
            key: The key of the call.

        Returns:
            The result as JSON-RPC carries it, or None if there is no such tool.
        """
        tool = next((tool for tool in self.describe() if tool["name"] == name), None)
        if tool is None:
            return None
        if not key.allows(writing=not tool["annotations"]["readonly"]):
            return failure(f"Permission denied: Access denied for tool: {name}")
        if complaint := first_complaint(arguments, tool["inputSchema"]):
            return failure(invalid("input", name.replace("-", "/", 1), complaint))
        given: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
        if name == ORDERS_LIST:
            return self._list_orders(given, key)
        if name == ORDERS_GET:
            return success(self._one_order(as_int(given["id"]), key))
        return failure(f"The simulator does not simulate {name}.")

    def _list_orders(self, arguments: Mapping[str, Any], key: ApiKey) -> JsonObject:
        if missing := not_simulated(arguments):
            return failure(missing)
        return success({"data": list_orders(self._shop, arguments, can_view=key.can_view)})

    def _one_order(self, order_id: int, key: ApiKey) -> object:
        if not key.can_view:
            text = "Sorry, you cannot view this resource."
            return wordpress_error("woocommerce_rest_cannot_view", text, 403)
        try:
            return order_json(self._shop.order(order_id), self._shop.face, links=False)
        except NoSuchOrderError:
            return wordpress_error("woocommerce_rest_shop_order_invalid_id", "Invalid ID.", 404)


def list_orders(shop: SimulatedShop, arguments: Mapping[str, Any], *, can_view: bool) -> object:
    """Return the data of a listing: the orders, or the REST API's error in their place."""
    if not can_view:
        text = "Sorry, you cannot list resources."
        return wordpress_error("woocommerce_rest_cannot_view", text, 403)
    listing = read_listing(arguments, registered=shop.statuses, zone=shop.zone)
    found = select(shop.orders, listing, shop.paging)
    orders = [order_json(order, shop.face, links=True) for order in found.orders]
    if fields := as_list(arguments.get("_fields", [])):
        return [with_fields(order, fields, shop.face) for order in orders]
    return orders


def listing_schema(shop: SimulatedShop) -> JsonObject:
    """Return the parameters of a listing, over MCP as over REST: both use the same controller."""
    return _listing_schema(shop.statuses)


@cache
def _listing_schema(statuses: tuple[str, ...]) -> JsonObject:
    (tool,) = (tool for tool in _descriptions() if tool["name"] == ORDERS_LIST)
    schema: JsonObject = copy.deepcopy(tool["inputSchema"])
    schema["properties"]["status"]["items"]["enum"] = ["any", "trash", "auto-draft", *statuses]
    return schema


def not_simulated(arguments: Mapping[str, Any]) -> str | None:
    """Return which filters the simulator lacks; None if it has them all."""
    missing = [name for name in NOT_SIMULATED if name in arguments]
    return f"The simulator does not simulate {', '.join(missing)}." if missing else None


def invalid(what: Literal["input", "output"], ability: str, complaint: Complaint) -> str:
    """Return WordPress's sentence about an ability's invalid input or output."""
    return f'Ability "{ability}" has invalid {what}. Reason: {complaint.text}'


def success(data: object) -> JsonObject:
    """Return a tool's result: the same data twice, once as text. REST errors have this form too."""
    return {
        "content": [{"type": "text", "text": php_json(data)}],
        "structuredContent": data,
    }


def failure(text: str) -> JsonObject:
    """Return a tool's own error: HTTP and JSON-RPC report a success."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


@cache
def _descriptions() -> list[JsonObject]:
    text = files("shop_poller.simulator").joinpath("tools.json").read_text(encoding="utf-8")
    tools: list[JsonObject] = json.loads(text)
    return tools
