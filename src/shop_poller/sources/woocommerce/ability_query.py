"""The words of the ability `woocommerce/orders-query`: what to ask, and what several answers make together.

Its two kinds of time are read in two ways, each wrong for the other (docs/woocommerce.md).
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
"""A bound of the time of creation ("date_after" or "date_before"), and whether both were given."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One answer of the ability.

    Attributes:
        shop_time: the shop's clock when it answered.
        preamble: text that stood before the answer.
        total: how many orders match, if it says so.
        total_pages: how many pages they fill, if it says so.
    """

    items: tuple[Item, ...]
    shop_time: datetime
    preamble: str
    total: int | None = None
    total_pages: int | None = None


def parameters(query: Query, inclusive: frozenset[Boundary] = frozenset()) -> dict[str, Any]:
    """A query, of one status and one id at most, in the ability's own words.

    Args:
        query: what to ask.
        inclusive: bounds that the shop takes to include the second that they name.
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
    return requested


def boundaries(items: Iterable[Item], query: Query) -> frozenset[Boundary]:
    """The bounds whose own second is in an answer, though a query leaves it out.

    With both bounds given the shop includes the upper one, alone it does not; other versions may differ.
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
    """The sum of the counts of several lists; None if one of them is not known."""
    total = 0
    for each in counts:
        if each is None:
            return None
        total += each
    return total


def _zulu(instant: datetime) -> str:
    """For `modified_…`: UTC and its `Z`; without it the time is the shop's, a fraction loses the zone."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(answers: Sequence[Listed], query: Query) -> tuple[Item, ...]:
    """The first page of several lists, each sorted as asked.

    An order that changed its status meanwhile may be in two of them: the later answer counts.
    """
    placed: dict[int, tuple[datetime, Item]] = {}
    for answer in answers:
        at = datetime.max.replace(tzinfo=UTC) if query.newest_first else datetime.min.replace(tzinfo=UTC)
        for item in answer.items:
            at = (item.created_at if query.newest_first else item.modified_at) or at
            placed[item.id] = (at, item)
    ordered = sorted(placed.values(), key=lambda pair: pair[0], reverse=query.newest_first)
    return tuple(item for _, item in ordered[: query.per_page])
