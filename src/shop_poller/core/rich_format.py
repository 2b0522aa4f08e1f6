"""Writes notifications for people: what happened, to which order, what is in it, and where to open it. Pure.

A rich message is made from the notification's JSON alone, so a stored one can be shown again. Each sink for
people formats it for its own channel (Telegram's HTML, a line of a terminal), and shortens its list of items
to what the channel takes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from babel.dates import format_datetime

from shop_poller.core.digest_lines import DigestLines
from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import CAUSES, Locale
from shop_poller.core.model import EventType
from shop_poller.core.money import money, quantity
from shop_poller.core.plain_text import one_line
from shop_poller.core.rich_message import RichMessage

SEPARATOR = " · "
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
TIME = "d MMMM, HH:mm"
MAX_VALUE = 500
"""The most characters of one value, so that a long one does not push out the others."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language. Names in braces are placeholders.

    Attributes:
        titles: by event type, the parts of the title; a part with an empty value is left out.
        facts: lines below the title.
        words: all other texts.
        counts: by event type and plural form, how many events of a type there are; "other" is for all types
            without an entry.
    """

    titles: Mapping[str, Sequence[str]]
    facts: Mapping[str, str]
    words: Mapping[str, str]
    counts: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class RichFormat:
    """How rich messages are written.

    Attributes:
        locale: the language of numbers and dates.
        texts: of the language.
        zone: times are shown in it; None for the machine's own zone.
        names_shop: whether titles say which shop it is, because there are several.
    """

    locale: Locale
    texts: Texts
    zone: tzinfo | None
    names_shop: bool = False

    def message(self, wire: Mapping[str, Any]) -> RichMessage:
        """Write the message about a notification.

        Args:
            wire: its JSON object; if one of an earlier version lacks data, the lines about it are left out.
        """
        data, event_type = wire["data"], wire["event_type"]
        values = self.values(wire)
        parts = self.texts.titles.get(event_type)
        is_own = parts is None  # the owner named the event, and wrote its texts
        title = [wire["title"]] if parts is None else [_fill(part, values) for part in parts]
        if self.names_shop:
            title.append(values["shop"])
        return RichMessage(
            title=SEPARATOR.join(part for part in title if part),
            text=wire["message"] if is_own else "",
            items=tuple(map(self.item, data.get("items") or ()))
            if is_own or event_type in SHOWS_ITEMS
            else (),
            more_items=data.get("more_items", 0),
            more_text=self.texts.words["more_items"],
            facts=(
                *self._digest_lines(wire),
                *(fact for text in self._facts(wire) if (fact := _fill(text, values))),
            ),
            personal=tuple(_fill(self.texts.facts[name], values) for name in data.get("buyer") or {}),
            url=data.get("admin_url") or "",
            url_text=self.texts.words["open_order"],
        )

    def money(self, amount: str, data: Mapping[str, Any]) -> str:
        """Return an amount in the currency of an order.

        Args:
            amount: a decimal number as text.
            data: of the notification.
        """
        currency = data.get("currency") or ""
        sign = data.get("currency_sign") or currency
        return money(amount, currency=currency, sign=sign, locale=self.locale)

    def quantity(self, number: str) -> str:
        """Return how many of a thing, e.g. "0,5"."""
        return quantity(number, locale=self.locale)

    def time(self, instant: str, pattern: str) -> str:
        """Return an instant in the shop's time zone.

        Args:
            instant: in ISO 8601.
            pattern: of CLDR, e.g. "d MMMM, HH:mm".

        Raises:
            ValueError, KeyError, AttributeError: there is no such instant or pattern.
        """
        there = datetime.fromisoformat(instant).astimezone(self.zone)
        return str(format_datetime(there, pattern, locale=self.locale))

    def values(self, wire: Mapping[str, Any]) -> dict[str, str]:
        """Return the values of all placeholders; "" for one that is not known."""
        data = wire["data"]
        found = {name: str(value) for name, value in data.items() if isinstance(value, str | int)}
        found |= data.get("buyer") or {}
        values = {name: one_line(value, MAX_VALUE) for name, value in found.items()}
        for name in ("total", "amount", "refunded_total"):
            if data.get(name) is not None:
                values[name] = self.money(data[name], data)
        values["refunded"] = values.get("refunded_total") or values.get("total", "")
        values["number"] = data.get("number") or wire["source_id"]
        shop = data.get("shop") or {}
        values["shop"] = shop.get("name") or shop.get("id") or wire["source_id"]
        values["service"] = data.get("service_name") or ""
        for name in ("since", "awaiting_since", "counted_since"):
            if data.get(name):
                values[name] = self.time(data[name], TIME)
        if data.get("awaiting_hours") is not None:
            values["hours"] = str(data["awaiting_hours"])
        if data.get("error_type") in list(ErrorKind):
            values["cause"] = CAUSES[self.locale][ErrorKind(data["error_type"])]
        if wire["event_type"] == EventType.DIGEST:
            values |= DigestLines(data, self.texts, self.locale).title_values
        return values

    def _digest_lines(self, wire: Mapping[str, Any]) -> Iterator[str]:
        if wire["event_type"] == EventType.DIGEST:
            yield from DigestLines(wire["data"], self.texts, self.locale).lines()

    def _facts(self, wire: Mapping[str, Any]) -> Iterator[str]:
        """Yield the texts of the lines that an event shows."""
        facts, data, event_type = self.texts.facts, wire["data"], wire["event_type"]
        yield from (facts[name] for name in ALWAYS_SHOWN_FACTS.get(event_type, ()))
        if event_type == EventType.NEW and data.get("was_announced"):
            yield facts["paid_now"]
        if event_type == EventType.CANCELLED:
            yield facts["paid" if data.get("paid") else "unpaid"]
        if data.get("fully_refunded"):
            yield facts["fully_refunded"]
        elif "refund_id" in data and data.get("refunded_total") not in {None, data.get("amount")}:
            yield facts["refunded_total"]
        if event_type in SHOWS_WAYS:
            ways = {"payment": "payment_method", "shipping": "shipping_method"}
            yield SEPARATOR.join(facts[name] for name, value in ways.items() if data.get(value))

    def item(self, item: Mapping[str, str]) -> str:
        """Return a line of an order as a text, e.g. "Honey ×2"."""
        count = self.quantity(item.get("quantity", ""))
        return (
            self.texts.words["item"]
            .replace("{quantity}", count)
            .replace("{name}", one_line(item.get("name", ""), MAX_VALUE))
        )


ALWAYS_SHOWN_FACTS: Mapping[str, Sequence[str]] = {
    EventType.SILENCE: ("silence",),
    EventType.DIGEST: ("counted_since",),
    EventType.UNHEALTHY: ("cause", "last_success"),
    EventType.RECOVERED: ("down_since",),
    EventType.DEAD_LETTERS: ("reason",),
    EventType.TEST: ("test",),
}
"""The facts that an event shows in any case."""
SHOWS_ITEMS = frozenset(
    {
        EventType.NEW,
        EventType.PLACED,
        EventType.CANCELLED,
        EventType.FAILED,
        EventType.PAYMENT_OVERDUE,
        EventType.REFUNDED,
    }
)
SHOWS_WAYS = frozenset({EventType.NEW, EventType.PLACED, EventType.FAILED, EventType.PAYMENT_OVERDUE})


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace the names in braces; return "" if a value is empty. Values are not templates themselves."""
    if any(not values.get(name) for name in PLACEHOLDER.findall(text)):
        return ""
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)
