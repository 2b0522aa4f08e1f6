"""The parameters of the ability `woocommerce/orders-query`, and how several answers are merged.

It interprets its two kinds of time in two ways; each is wrong for the other kind (docs/woocommerce.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shop_poller.core.cursor import SECOND
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.sources.woocommerce.listing import naive_utc

Item = Order | UnreadableOrder

Boundary = tuple[str, bool]
"""A bound of the time of creation ("date_after" or "date_before"), and whether both are given."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One answer of the ability.

    Attributes:
        shop_time: the shop's clock when it answered.
        preamble: text before the answer.
        total: how many orders match; None if the shop does not say.
        total_pages: how many pages they fill; None if the shop does not say.
    """

    items: tuple[Item, ...]
    shop_time: datetime
    preamble: str
    total: int | None = None
    total_pages: int | None = None


def parameters(query: Query, inclusive: frozenset[Boundary] = frozenset()) -> dict[str, Any]:
    """Return a query, of one status and one id at most, as parameters of the ability.

    Args:
        query: what to ask.
        inclusive: the bounds for which the shop includes the second that they name.
    """
    requested: dict[str, Any] = {
        "per_page": query.per_page,
        "orderby": "date" if query.newest_first else "date_modified",
        "order": "desc" if query.newest_first else "asc",
    }
    if query.modified_after is not None:
        requested["modified_after"] = _zulu(query.modified_after)
    both = query.created_after is not None and query.created_before is not None
    if query.created_after is not None:
        strict = SECOND if ("date_after", both) in inclusive else timedelta(0)
        requested["date_after"] = naive_utc(query.created_after + strict)
    if query.created_before is not None:
        strict = SECOND if ("date_before", both) in inclusive else timedelta(0)
        requested["date_before"] = naive_utc(query.created_before - strict)
    if query.statuses:
        (requested["status"],) = query.statuses
    if query.exclude:
        requested["exclude"] = sorted(query.exclude)
    if query.ids:
        (requested["id"],) = query.ids
    if query.page > 1:
        requested["page"] = query.page
    if query.with_items:
        requested["include_line_items"] = True
    return requested


def boundaries(items: Iterable[Item], query: Query) -> frozenset[Boundary]:
    """Return the bounds whose own second is in an answer, although a query excludes it.

    If both bounds are given, the shop includes the upper one. If it is the only one, the shop does not.
    Other versions may differ.
    """
    both = query.created_after is not None and query.created_before is not None
    found = set[Boundary]()
    for item in items:
        if item.created_at is None:
            continue
        if query.created_after is not None and item.created_at == query.created_after.replace(microsecond=0):
            found.add(("date_after", both))
        if query.created_before is not None and item.created_at == query.created_before.replace(
            microsecond=0
        ):
            found.add(("date_before", both))
    return frozenset(found)


def sum_of(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the counts of several lists; None if a count is not known."""
    total = 0
    for each in counts:
        if each is None:
            return None
        total += each
    return total


def _zulu(instant: datetime) -> str:
    """Format an instant for `modified_…`: UTC with `Z`, without a fraction.

    Without `Z` the shop reads the time as its own. With a fraction it ignores the zone.
    """
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(answers: Sequence[Listed], query: Query) -> tuple[Item, ...]:
    """Merge several lists, each sorted as requested, and return the first page.

    An order whose status changed meanwhile may be in two lists. The later answer counts.
    """
    placed: dict[int, tuple[datetime, Item]] = {}
    for answer in answers:
        at = datetime.max.replace(tzinfo=UTC) if query.newest_first else datetime.min.replace(tzinfo=UTC)
        for item in answer.items:
            at = (item.created_at if query.newest_first else item.modified_at) or at
            placed[item.id] = (at, item)
    ordered = sorted(placed.values(), key=lambda pair: pair[0], reverse=query.newest_first)
    return tuple(item for _, item in ordered[: query.per_page])
