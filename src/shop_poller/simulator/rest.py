"""The orders of WooCommerce's REST API: GET `…/wc/v3/orders` and `…/wc/v3/orders/<id>`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from shop_poller.simulator import auth
from shop_poller.simulator.answers import Answer, Request, wordpress_error
from shop_poller.simulator.keys import ApiKey, AppPassword
from shop_poller.simulator.listing import Listing, read_listing, select
from shop_poller.simulator.rendering import order_json
from shop_poller.simulator.routes import ROUTES, SimulatedDialect, route_of
from shop_poller.simulator.schema import Complaint, as_bool, as_list, first_complaint, id_in
from shop_poller.simulator.site import Site
from shop_poller.simulator.tools import listing_schema, not_simulated

_ALLOW = "GET, POST"
# PHP's own limit (max_input_vars); later parameters are ignored.
_MAX_PARAMS = 1000
# WooCommerce adds these to the addresses of the other pages, if they were not in the request.
_DEFAULTS = {"status[0]": "any", "dp": "2", "context": "view"}
_FLAGS = {"dates_are_gmt"}
_LISTS = {"status", "include", "exclude"}
# Their contents are read as ids, and never refused.
_UNCHECKED = {"include", "exclude"}

Params = Mapping[str, Any]


class RestOrders:
    """Answers requests for orders.

    A POST with `_method=GET` in its address, or the header `X-HTTP-Method-Override: GET`, is a GET. Its
    JSON body is read like a query. This helps if the address would be too long.

    Args:
        site: The site that it belongs to.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        method = request.method
        if method == "POST":
            override = request.headers.get("x-http-method-override", method)
            method = _query(request).get("_method", override).upper()
        if method == "OPTIONS":
            return self._site.json(200, {"namespace": "wc/v3", "methods": _ALLOW.split(", ")}, allow=_ALLOW)
        writing = method not in ("GET", "HEAD")
        holder = auth.for_rest(self._site, request, writing=writing)
        if request.breaks_its_word:
            return self._site.broken_json(allow=None if isinstance(holder, Answer) else _ALLOW)
        if method not in ("GET", "HEAD", "POST", "DELETE"):
            return self._site.no_route()
        if isinstance(holder, Answer):
            return holder
        answer = self._let_in(request, holder, writing=writing)
        return replace(answer, body=b"") if method == "HEAD" else answer

    def _let_in(self, request: Request, holder: ApiKey | AppPassword, *, writing: bool) -> Answer:
        if not holder.can_view:
            return self._error("woocommerce_rest_cannot_view", "Sorry, you cannot list resources.", 403)
        if writing:
            text = "The simulator does not simulate changes by the REST API."
            return self._error("not_simulated", text, 501)
        return self._show(request)

    def _show(self, request: Request) -> Answer:
        route = route_of(request)
        if route == ROUTES[SimulatedDialect.REST]:
            return self._list(_params(request), _shown_query(request))
        order_id = int((route or "").rpartition("/")[2])
        shop = self._site.shop
        if not shop.has(order_id):
            return self._error("woocommerce_rest_shop_order_invalid_id", "Invalid ID.", 404)
        return self._site.json(200, order_json(shop.order(order_id), shop.face, links=True), allow=_ALLOW)

    def _list(self, params: Params, query: Params) -> Answer:
        shop = self._site.shop
        if bad := _complaints(params, listing_schema(shop)["properties"]):
            return self._invalid(bad)
        if missing := not_simulated(params):
            return self._error("not_simulated", missing, 501)
        listing = read_listing(params, registered=shop.statuses, zone=shop.zone)
        found = select(shop.orders, listing, shop.paging)
        orders = [order_json(order, shop.face, links=True) for order in found.orders]
        if fields := as_list(params.get("_fields", [])):
            orders = [_only(order, [str(field).split(".") for field in fields]) for order in orders]
        totals = {"X-WP-Total": str(found.total), "X-WP-TotalPages": str(found.pages)}
        return self._site.json(
            200, orders, allow=_ALLOW, **totals, **self._links(listing, found.pages, query)
        )

    def _links(self, listing: Listing, pages: int, query: Params) -> dict[str, str]:
        """Return the neighbouring pages, in the place of the REST index's address."""
        page = listing.skip // listing.per_page + 1
        neighbours = []
        if page > 1:
            neighbours.append(("prev", min(page - 1, pages)))
        if page < pages:
            neighbours.append(("next", page + 1))
        address = self._address(query)
        links = [f'<{address}page={number}>; rel="{rel}"' for rel, number in neighbours]
        return {"Link": ", ".join(links)} if links else {}

    def _address(self, shown: Params) -> str:
        """Return the request's own address, without the page, which is appended."""
        base = self._site.shop.face.rest(ROUTES[SimulatedDialect.REST])
        query = f"{urlencode(shown)}&" if shown else ""
        return f"{base}{'&' if '?' in base else '?'}{query}"

    def _invalid(self, bad: Mapping[str, Complaint]) -> Answer:
        params = {name: complaint.text for name, complaint in bad.items()}
        details = {
            name: {"code": complaint.code, "message": complaint.text, "data": None}
            for name, complaint in bad.items()
        }
        text = f"Invalid parameter(s): {', '.join(bad)}"
        error = wordpress_error("rest_invalid_param", text, 400, params=params, details=details)
        return self._site.json(400, error, allow=_ALLOW)

    def _error(self, code: str, text: str, status: int) -> Answer:
        return self._site.json(status, wordpress_error(code, text, status), allow=_ALLOW)


def _complaints(params: Params, schemas: Mapping[str, Any]) -> dict[str, Complaint]:
    """Return all invalid parameters; unknown ones are ignored."""
    found = {
        name: first_complaint(value, schemas[name], name)
        for name, value in params.items()
        if name in schemas and name not in _UNCHECKED
    }
    return {name: complaint for name, complaint in found.items() if complaint is not None}


def _params(request: Request) -> Params:
    body = request.rpc if request.is_json and isinstance(request.rpc, dict) else {}
    return {**_query(request), **body}


def _shown_query(request: Request) -> Params:
    """Return the query as WooCommerce repeats it in the header Link: as it was understood, without the page.

    For a POST it is only the address, without the body.
    """
    query = _query(request)
    if request.method == "POST":
        return {name: value for name, value in query.items() if name != "page"}
    shown: dict[str, str] = {}
    for name, value in query.items():
        if name in _LISTS or isinstance(value, list):
            items = [id_in(item) if name in _UNCHECKED else item for item in as_list(value)]
            shown |= {f"{name}[{i}]": str(item) for i, item in enumerate(items)}
        elif name in _FLAGS:
            shown[name] = str(int(as_bool(value)))
        elif name != "page":
            shown[name] = value
    return shown | {name: value for name, value in _DEFAULTS.items() if name.partition("[")[0] not in query}


def _query(request: Request) -> Params:
    """Read a query as PHP does: `name[]=` and `name[0]=` make lists, else the last one wins."""
    params: dict[str, Any] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True)[:_MAX_PARAMS]:
        if name == "rest_route":
            continue
        if item_of := re.fullmatch(r"([^\[]+)\[\d*\]", name):
            items = params.setdefault(item_of[1], [])
            if isinstance(items, list):
                items.append(value)
        else:
            params[name] = value
    return params


def _only(value: object, paths: Sequence[Sequence[str]]) -> object:
    """Return the requested fields of an object; a dot selects a field of a nested object."""
    if not isinstance(value, dict):
        return [] if isinstance(value, list) else value
    left = {}
    for name, member in value.items():
        mine = [path[1:] for path in paths if path[0] == name]
        if mine:
            left[name] = member if any(not rest for rest in mine) else _only(member, mine)
    return left
