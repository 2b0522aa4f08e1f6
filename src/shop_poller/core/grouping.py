"""Writes one message about several notifications to the same people. Pure.

The message is made from the stored bodies. It has an event id of its own, which follows from those of its
notifications: a receiver recognises a repeat of the same group.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from shop_poller.core.messages import LEVELS, NAMESPACE, Locale
from shop_poller.core.model import Delivery, EventType, GroupDelivery, iso
from shop_poller.core.money import money, plural_form
from shop_poller.core.plain_text import one_line
from shop_poller.core.rich_format import SEPARATOR, Texts
from shop_poller.core.rich_message import RICH, RichMessage, rich_body

GROUP = "notifications.group"
"""The event type of such a message on the wire. No stored delivery has it."""
MOST_LINES = 20
MAX_LINE = 150
"""Characters of one line."""
OTHER = "other"
AMOUNTS: Mapping[str, Sequence[str]] = {
    EventType.NEW: ("total",),
    EventType.PLACED: ("total",),
    EventType.REFUNDED: ("refunded_total", "total"),
    EventType.PARTIALLY_REFUNDED: ("amount",),
}
"""The amounts whose sum the title shows, by event type: the first of these fields that is known."""
SEVERITY = ("info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class GroupFormat:
    """How messages about several notifications are written.

    Attributes:
        texts: of the language.
        shop: the name of the shop for the title; "" if there is only one shop.
        levels: replaces level names, see MessageFormat.
    """

    locale: Locale
    texts: Texts
    shop: str = ""
    levels: Mapping[str, str] | None = None

    def compose(self, rows: Sequence[Delivery]) -> GroupDelivery:
        """Write one message for deliveries to one sink, at least one."""
        first = rows[0]
        wires = [_wire(row) for row in rows]
        ids = [row.event_id for row in rows]
        group_id = str(uuid.uuid5(NAMESPACE, "/".join((first.shop_id, GROUP, *ids))))
        rich = self._message(rows, wires)
        body = {
            "event_id": group_id,
            "event_type": GROUP,
            "level": self._level(wires),
            "source_module": "shop",
            "source_id": first.shop_id,
            "title": rich.title,
            "message": "\n".join(rich.lines),
            "data": {"count": len(rows)},
            "grouped": ids,
            "brand_id": wires[0].get("brand_id"),
            "target_roles": wires[0].get("target_roles"),
            "target_users": wires[0].get("target_users"),
            "created_at": iso(max(row.created_at for row in rows)),
        }
        return GroupDelivery(
            seq=first.seq,
            shop_id=first.shop_id,
            sink=first.sink,
            key=first.key,
            event_id=group_id,
            event_type=GROUP,
            body=rich_body(body, rich),
            attempts=max(row.attempts for row in rows),
            created_at=first.created_at,
            head_since=first.head_since,
            rows=tuple(rows),
        )

    def _message(self, rows: Sequence[Delivery], wires: Sequence[Mapping[str, Any]]) -> RichMessage:
        lines = [_line(row, wire) for row, wire in zip(rows, wires, strict=True)]
        title = [*self._counts(rows, wires), *([self.shop] if self.shop else [])]
        rich = RichMessage(
            title=SEPARATOR.join(title),
            items=tuple(lines),
            more_text=self.texts.words["more_items"],
            is_list=True,
        )
        return rich.with_items(MOST_LINES)

    def _counts(self, rows: Sequence[Delivery], wires: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Yield how many there are of each type, each with its sums; types without a text come together."""
        by_type: dict[str, list[Mapping[str, Any]]] = {}
        for row, wire in zip(rows, wires, strict=True):
            by_type.setdefault(row.event_type if row.event_type in self.texts.counts else OTHER, []).append(
                wire
            )
        for event_type in (*(name for name in self.texts.counts if name != OTHER), OTHER):
            if found := by_type.get(event_type):
                forms = self.texts.counts[event_type]
                form = plural_form(len(found), locale=self.locale)
                yield forms[form].replace("{count}", str(len(found)))
                yield from self._sums(found, AMOUNTS.get(event_type, ()))

    def _sums(self, wires: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> Iterator[str]:
        """Yield one text with a sum per currency; nothing if one of the amounts is not known."""
        sums: dict[tuple[str, str], Decimal] = {}
        for wire in wires:
            data = wire.get("data")
            if not isinstance(data, dict):
                return
            amount = next((data[name] for name in fields if data.get(name)), None)
            try:
                value = Decimal(str(amount))
            except InvalidOperation:
                return  # a sum without it would be wrong
            currency = str(data.get("currency") or "")
            place = (currency, str(data.get("currency_sign") or currency))
            sums[place] = sums.get(place, Decimal(0)) + value
        yield " + ".join(
            money(str(total), currency=currency, sign=sign, locale=self.locale)
            for (currency, sign), total in sums.items()
        )

    def _level(self, wires: Sequence[Mapping[str, Any]]) -> str:
        """Return the most severe level, as SHOP_LEVEL_MAP names it."""
        names = [(self.levels or {}).get(level, level) for level in SEVERITY]
        found = [wire.get("level") for wire in wires]
        most_severe = next((name for name in reversed(names) if name in found), None)
        return most_severe or str(found[0] or LEVELS[EventType.NEW])


def _wire(delivery: Delivery) -> Mapping[str, Any]:
    try:
        found = json.loads(delivery.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _line(row: Delivery, wire: Mapping[str, Any]) -> str:
    """Return the line for one notification: the title of its rich message, or of its JSON."""
    rich = wire.get(RICH)
    if isinstance(rich, dict) and rich.get("title"):
        return str(rich["title"])[:MAX_LINE].rstrip()  # its parts are clean already
    if wire.get("title"):  # the body was written by an earlier version
        return one_line(f"{wire['title']}: {wire.get('message', '')}", MAX_LINE)
    return one_line(f"{row.event_type} {row.key}", MAX_LINE)
