"""The query behind `woocommerce-orders-list`: filters, sorting, pages."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from shop_poller.simulator.orders import SimulatedOrder
from shop_poller.simulator.schema import as_bool, as_int, as_list, id_in, parse_date

# Parameters of the schema that no test has needed so far. They cause an error, since a filter that is
# silently ignored would make a test prove something false.
NOT_SIMULATED = (
    "search",
    "parent",
    "parent_exclude",
    "customer",
    "product",
    "created_via",
    "include_meta",
    "exclude_meta",
)


@dataclass(frozen=True)
class Listing:
    """A query for orders. Instants are aware UTC; all are exclusive unless a flag includes them."""

    statuses: frozenset[str]
    per_page: int = 10
    skip: int = 0
    order_by: str = "date"
    descending: bool = True
    include: tuple[int, ...] = ()
    exclude: frozenset[int] = frozenset()
    created_after: datetime | None = None
    created_before: datetime | None = None
    created_before_is_inclusive: bool = False
    modified_after: datetime | None = None
    modified_before: datetime | None = None


def read_listing(arguments: Mapping[str, Any], *, registered: Sequence[str], zone: tzinfo) -> Listing:
    """Make a query from a tool's arguments, which have passed the schema.

    Args:
        arguments: The tool's arguments; unknown ones are ignored.
        registered: The shop's registered statuses. `any` means these: no trash, no auto-drafts, and no
            orders with a status of a removed plugin.
        zone: The shop's time zone.

    Returns:
        The query.
    """
    named = frozenset(as_list(arguments.get("status", "any")))
    per_page = as_int(arguments.get("per_page", 10))
    page = as_int(arguments.get("page", 1))
    # An offset overrides the page; an offset of 0 is ignored.
    offset = abs(as_int(arguments.get("offset", 0)))
    in_gmt = as_bool(arguments.get("dates_are_gmt", False))

    def instant(name: str) -> datetime | None:
        return _instant(arguments[name], zone, in_gmt=in_gmt) if name in arguments else None

    return Listing(
        statuses=frozenset(registered) if not named or "any" in named else named,
        per_page=per_page,
        skip=offset or (page - 1) * per_page,
        order_by=arguments.get("orderby", "date"),
        descending=arguments.get("order", "desc") == "desc",
        include=tuple(id_in(item) for item in as_list(arguments.get("include", []))),
        exclude=frozenset(id_in(item) for item in as_list(arguments.get("exclude", []))),
        created_after=instant("after"),
        created_before=instant("before"),
        modified_after=instant("modified_after"),
        modified_before=instant("modified_before"),
    )


@dataclass(frozen=True)
class Paging:
    """How a site splits a list into pages. Themes and plugins change this; all of it is legal.

    Attributes:
        cap: The most rows of a page, whatever `per_page` is; None is no cap.
        counts_as_requested: Whether the number of pages is computed without the cap.
        hidden: Orders that are removed from a page after the query, but counted.
        rows_per_order: How often each order is found, as by a join. Rows are counted and split into pages.
    """

    cap: int | None = None
    counts_as_requested: bool = False
    hidden: frozenset[int] = frozenset()
    rows_per_order: int = 1


HONEST = Paging()


@dataclass(frozen=True)
class Found:
    """The orders of one page, sorted, and the number of orders on all pages."""

    orders: list[SimulatedOrder]
    total: int
    pages: int


def select(orders: Iterable[SimulatedOrder], listing: Listing, paging: Paging = HONEST) -> Found:
    """Execute a query."""
    found = [order for order in orders if _wanted(order, listing)]
    if listing.order_by == "include" and listing.include:
        found.sort(key=lambda order: listing.include.index(order.id))
    else:
        found.sort(key=lambda order: _sort_key(order, listing.order_by), reverse=listing.descending)
    if paging.rows_per_order > 1:
        found = [order for order in found for _ in range(paging.rows_per_order)]
    per_page, skip = listing.per_page, listing.skip
    if paging.cap is not None and paging.cap < per_page:
        # Page 2 begins where page 1 ended; an offset that does not come from a page is unchanged.
        skip = skip if skip % per_page else skip // per_page * paging.cap
        per_page = paging.cap
    page = [order for order in found[skip : skip + per_page] if order.id not in paging.hidden]
    counted_by = listing.per_page if paging.counts_as_requested else per_page
    return Found(page, len(found), math.ceil(len(found) / counted_by))


def _instant(text: str, zone: tzinfo, *, in_gmt: bool) -> datetime:
    # WordPress converts a time with an offset into the shop's wall clock, then forgets the offset.
    # `dates_are_gmt` only selects the column that the wall clock is compared with. So a `Z` together
    # with the flag is off by the shop's own offset.
    date = parse_date(text)
    wall = date if date.tzinfo is None else date.astimezone(zone)
    return in_zone(wall, UTC if in_gmt else zone)


def in_zone(wall: datetime, zone: tzinfo) -> datetime:
    """Return the instant, in whole seconds, at which a zone's clock shows this time."""
    return wall.replace(tzinfo=zone, microsecond=0).astimezone(UTC)


def _wanted(order: SimulatedOrder, listing: Listing) -> bool:
    return (
        order.status in listing.statuses
        and (not listing.include or order.id in listing.include)
        and order.id not in listing.exclude
        and _between(
            order.created,
            listing.created_after,
            listing.created_before,
            inclusive=listing.created_before_is_inclusive,
        )
        and _between(order.modified, listing.modified_after, listing.modified_before)
    )


def _between(
    at: datetime, after: datetime | None, before: datetime | None, *, inclusive: bool = False
) -> bool:
    return (after is None or at > after) and (before is None or at < before or (inclusive and at == before))


def _sort_key(order: SimulatedOrder, order_by: str) -> tuple[Any, ...]:
    match order_by:
        case "modified":
            return (order.modified, order.id)
        case "date":
            return (order.created, order.id)
        # Abilities sort without a second key, so ties have no defined order.
        case "date_modified":
            return (order.modified,)
        case "date_created":
            return (order.created,)
        case "total":
            return (order.total,)
        case _:
            return (order.id,)
