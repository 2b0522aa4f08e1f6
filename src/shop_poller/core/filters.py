"""Which notifications a sink accepts: `events=`, `levels=` and `where=` in its address.

A word of `events` is an event's full name, its last part (`new`), or a prefix and a star (`service.*`).
Levels have the names that are sent, after SHOP_LEVEL_MAP. `where` is an expression over the facts of a
notification, see core/expressions.py.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

from shop_poller.core.errors import text_of
from shop_poller.core.expressions import FIELDS, Expression, Facts, Kind, names_event
from shop_poller.core.model import EventType, Notification, Order
from shop_poller.core.showing import is_harmless
from shop_poller.core.translatable import Text

MOST_WORDS = 100
PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,70}\*?")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a sink accepts; an empty field accepts everything.

    Attributes:
        events: words of `events=`.
        levels: words of `levels=`.
        is_for_people: people read what the sink delivers. Only they receive orders that are placed and not
            paid yet, unless `events` names that event: a program that knows the older events must not meet a
            new one. And they receive no cancellation of an order that was never announced.

    Digests are sent to the sinks that have a schedule for them, whatever their filter says.
    """

    events: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    is_for_people: bool = False
    where: Expression | None = None

    def wants(self, event_type: str, level: str) -> bool:
        """Return whether the sink accepts events of this type and level, perhaps not all of them."""
        needs_name = event_type == EventType.DIGEST or (
            event_type == EventType.PLACED and not self.is_for_people
        )
        words = [word for word in self.events if not (needs_name and word.endswith("*"))]
        named = any(names_event(word, event_type) for word in words) or not (self.events or needs_name)
        return named and (not self.levels or level in self.levels)

    def takes(self, notification: Notification) -> bool:
        """Return whether the sink accepts a notification.

        One that is not about an order is refused only if `where` is false whatever the facts of an order
        are: `total > 5000` must not hide that the shop is down.
        """
        if not self.wants(notification.event_type, notification.level):
            return False
        is_cancelled = notification.event_type == EventType.CANCELLED
        if self.is_for_people and is_cancelled and not notification.data.get("was_announced", True):
            return False
        return self.where is None or self.where.matches(facts(notification)) is not False


EVERYTHING = Filter()


def takers(sinks: Mapping[str, Filter], notification: Notification) -> list[str]:
    """Return the names of the sinks that accept a notification, in their order."""
    return [name for name, wanted in sinks.items() if wanted.takes(notification)]


def facts(notification: Notification) -> Facts:
    """Return what `where` knows of a notification, from its JSON alone."""
    data = notification.data
    shop = data.get("shop") or {}
    found = {
        "event": [notification.event_type],
        "level": [notification.level],
        "shop": _known(shop.get("id"), shop.get("name")),
    }
    if "total" not in data:  # not about an order
        return found
    paid = data.get("paid")
    return found | {
        "total": _known(data["total"]),
        "amount": _known(data.get("amount")),
        "currency": _known(data.get("currency")),
        "product": _known(*(item["name"] for item in data.get("items") or ())),
        "payment": _known(data.get("payment_method"), data.get("payment_code")),
        "shipping": _known(data.get("shipping_method")),
        "status": _known(data.get("status")),
        "previous_status": _known(data.get("previous_status")),
        "number": _known(data.get("number")),
        "paid": [] if paid is None else [str(paid).lower()],
    }


def lasting_facts(order: Order | None, *, event_type: str, level: str, shop: Sequence[str]) -> Facts:
    """Return what `where` surely knew of an event, however long ago: all but the status and so on.

    Args:
        order: as it is today; None if it cannot be read.
        event_type: of the event.
        level: of the event.
        shop: its id and its name.
    """
    found = {"event": [event_type], "level": [level], "shop": _known(*shop)}
    if order is None:
        return found
    return found | {
        "total": _known(order.total),
        "currency": _known(order.currency),
        "product": _known(*(item.name for item in order.items or ())),
        "payment": _known(order.payment_method, order.payment_code),
        "shipping": _known(order.shipping_method),
        "number": _known(order.number),
    }


def take_filter(query: str) -> tuple[Filter, str]:
    """Take `events`, `levels` and `where` out of the query of an address.

    Returns:
        The filter, and the rest of the query exactly as written: the receiver of a webhook may depend on it.

    Raises:
        ValueError: one of them is empty, too long, or in capitals, or `where` is no expression. The message
            does not contain its words, which may be a secret.
    """
    words: dict[str, list[str]] = {"events": [], "levels": []}
    taken, rest = take(query, (*words, "where"))
    for name in words:
        for value in taken[name]:
            found = [word for word in (text.strip() for text in unquote(value).split(",")) if word]
            if not found:
                raise ValueError(
                    Text("{name}= in an address names none; name some, or leave it out", name=name)
                )
            words[name] += found
    if sum(map(len, words.values())) > MOST_WORDS:
        raise ValueError(
            Text("events= and levels= in an address have more than {most} words", most=MOST_WORDS)
        )
    wanted = Filter(tuple(words["events"]), tuple(words["levels"]), where=_where(taken["where"]))
    return wanted, rest


def take(query: str, options: Collection[str]) -> tuple[dict[str, list[str]], str]:
    """Take options out of the query of an address.

    Returns:
        By option, its values as written, and the rest of the query exactly as written.

    Raises:
        ValueError: an option is in capitals.
    """
    taken: dict[str, list[str]] = {name: [] for name in options}
    rest: list[str] = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in taken and name.lower() in taken:
            raise ValueError(
                Text("{name}= in an address should be written {written}=", name=name, written=name.lower())
            )
        taken.get(name, rest).append(value if name in taken else part)
    return taken, "&".join(rest)


def problems(wanted: Filter, *, events: Collection[str], levels: Collection[str]) -> list[str]:
    """Return one line per word of a filter that matches none of the possible events or levels.

    `events` and `levels` have all of them, by their full names.
    """
    words, named = list(wanted.events), list(wanted.levels)
    known_levels = {level.lower(): level for level in levels}
    for one in wanted.where.comparisons() if wanted.where is not None else ():
        if one.operator != "~" and FIELDS[one.field] is Kind.EVENT:
            words += [word.lower() for word in one.values]
        elif one.operator != "~" and one.field == "level":
            named += [known_levels.get(level.lower(), level) for level in one.values]
    unknown = [word for word in words if not any(names_event(word, event) for event in events)]
    found = [_unknown("event", word, events) for word in unknown]
    return found + [_unknown("level", word, levels) for word in named if word not in levels]


def _where(values: Collection[str]) -> Expression | None:
    """Parse the values of `where`. A plus is a blank, as in forms: an address has no blanks."""
    if not values:
        return None
    if len(values) > 1:
        raise ValueError(Text("where= is there more than once; join both expressions with and"))
    try:
        from shop_poller.core.expression_parser import parse_expression  # noqa: PLC0415 - few sinks need it

        return parse_expression(unquote_plus(next(iter(values))))
    except ValueError as error:
        raise ValueError(Text("where=: {problem}", problem=text_of(error))) from None


def _known(*values: Any) -> list[str]:
    """Return the values that are known."""
    return [str(value) for value in values if value not in {None, ""}]


def _unknown(what: str, word: str, known: Iterable[str]) -> str:
    # If an & is missing, a word may contain the receiver's token.
    may_be_named = PLAIN.fullmatch(word) and is_harmless(word.removesuffix("*"), is_name=True)
    there = ", ".join(sorted(known))
    if what == "event":
        if may_be_named:
            return Text("there is no event {name}; there are {there}", name=repr(word), there=there)
        return Text("there is no event with the given name; there are {there}", there=there)
    if may_be_named:
        return Text("there is no level {name}; there are {there}", name=repr(word), there=there)
    return Text("there is no level with the given name; there are {there}", there=there)
