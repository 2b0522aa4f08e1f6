"""The query behind `woocommerce-orders-list`: which orders, in which order, which page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from shop_poller.simulator.orders import SimulatedOrder
from shop_poller.simulator.schema import as_bool, as_int, as_list, parse_date

# What the schema offers and no test has needed so far. Asking for one is answered with an error:
# a filter that is silently ignored would prove something that is not so.
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
    """One question for orders. Instants are aware UTC and all four of them are exclusive."""

    statuses: frozenset[str]
    per_page: int = 10
    skip: int = 0
    order_by: str = "date"
    descending: bool = True
    include: tuple[int, ...] = ()
    exclude: frozenset[int] = frozenset()
    created_after: datetime | None = None
    created_before: datetime | None = None
    modified_after: datetime | None = None
    modified_before: datetime | None = None


def read_listing(arguments: Mapping[str, Any], *, registered: Sequence[str], zone: tzinfo) -> Listing:
    """Make a question out of a tool's arguments, which have passed the schema.

    Args:
        arguments: The tool's arguments; unknown ones are ignored.
        registered: The shop's registered statuses: `any` means these, so neither the trash nor
            an auto-draft, nor an order whose status a removed plugin left behind.
        zone: The shop's time zone.

    Returns:
        The question.
    """
    named = frozenset(as_list(arguments.get("status", "any")))
    per_page = as_int(arguments.get("per_page", 10))
    page = as_int(arguments.get("page", 1))
    # An offset beats the page; an offset of nought is none.
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
        include=tuple(as_int(item) for item in as_list(arguments.get("include", []))),
        exclude=frozenset(as_int(item) for item in as_list(arguments.get("exclude", []))),
        created_after=instant("after"),
        created_before=instant("before"),
        modified_after=instant("modified_after"),
        modified_before=instant("modified_before"),
    )


@dataclass(frozen=True)
class Found:
    """The orders of one page, sorted, and how many there are on all pages."""

    orders: list[SimulatedOrder]
    total: int


def select(orders: Iterable[SimulatedOrder], listing: Listing) -> Found:
    """Answer a question."""
    found = [order for order in orders if _wanted(order, listing)]
    if listing.order_by == "include" and listing.include:
        found.sort(key=lambda order: listing.include.index(order.id))
    else:
        found.sort(key=lambda order: _sort_key(order, listing.order_by), reverse=listing.descending)
    return Found(found[listing.skip : listing.skip + listing.per_page], len(found))


def _instant(text: str, zone: tzinfo, *, in_gmt: bool) -> datetime:
    # WordPress turns a time that names its offset into the shop's own wall clock, then forgets
    # the offset; `dates_are_gmt` only says with which column that wall clock is compared. So a
    # `Z` together with the flag is off by the shop's own offset.
    date = parse_date(text)
    wall = date if date.tzinfo is None else date.astimezone(zone)
    return in_zone(wall, UTC if in_gmt else zone)


def in_zone(wall: datetime, zone: tzinfo) -> datetime:
    """The instant, in whole seconds, at which a zone's clock shows this, whatever zone it came from."""
    return wall.replace(tzinfo=zone, microsecond=0).astimezone(UTC)


def _wanted(order: SimulatedOrder, listing: Listing) -> bool:
    return (
        order.status in listing.statuses
        and (not listing.include or order.id in listing.include)
        and order.id not in listing.exclude
        and _between(order.created, listing.created_after, listing.created_before)
        and _between(order.modified, listing.modified_after, listing.modified_before)
    )


def _between(at: datetime, after: datetime | None, before: datetime | None) -> bool:
    return (after is None or at > after) and (before is None or at < before)


def _sort_key(order: SimulatedOrder, order_by: str) -> tuple[Any, ...]:
    match order_by:
        case "modified":
            return (order.modified, order.id)
        case "date":
            return (order.created, order.id)
        # The abilities' own ways to sort: there is no second key, ties come out as they lie.
        case "date_modified":
            return (order.modified,)
        case "date_created":
            return (order.created,)
        case "total":
            return (order.total,)
        case _:
            return (order.id,)
