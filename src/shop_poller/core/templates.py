"""Messages for people by the owner's templates: which template is used, and which values it gets. Pure.

A template writes the title and the lines below it, as plain text. Everything else stays as it is: the link to
the order is added, and each channel escapes and shortens the message.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shop_poller.core.model import BuyerField
from shop_poller.core.plain_text import one_line, plain
from shop_poller.core.rich_format import MAX_VALUE, TIME, RichFormat
from shop_poller.core.rich_message import RichMessage
from shop_poller.core.template_check import DATA
from shop_poller.core.template_errors import BadTemplateError
from shop_poller.core.template_filters import MAX_OUTPUT, Formats
from shop_poller.core.template_sandbox import TemplateSet
from shop_poller.core.translatable import Text

DEFAULT = "default"
"""Stands for every event."""
TEXTS = (
    "number", "id", "total", "amount", "refunded", "refunded_total", "customer", "status", "previous_status",
    "payment_method", "shipping_method", "items_line", "shop", "hours", "since", "awaiting_since", "service",
    "cause", "reason", "count", "digest", "days", "counted_since", "event", "level", "title",
    "message", "created_at", "url",
    *BuyerField,
)  # fmt: skip
"""The values that are texts, "" for one that an event does not have."""
VALUES = (*TEXTS, "paid", "fully_refunded", "items", "more_items", DATA)
"""All values of a template."""
DATA_FIELDS = (
    "total", "customer", "status", "number", "currency", "paid", "date_modified", "previous_status",
    "was_announced", "refunded_total", "payment_method", "payment_code", "shipping_method", "items",
    "more_items", "currency_sign", "admin_url", "shop", "buyer", "amount", "refund_id", "fully_refunded",
    "awaiting_since",
    "awaiting_hours", "service_name", "error_type", "since", "count", "reason",
    "period", "first_day", "last_day", "orders", "failed", "cancelled", "refunds", "previous",
    "counted_since",
)  # fmt: skip
"""What `data` holds: as on the wire, and None for what an event does not have."""
MAX_DEPTH = 5


def candidates(event_type: str, sink: str, locale: str) -> Iterator[str]:
    """Yield the names of templates for a message, the most specific first."""
    for event in (event_type, DEFAULT):
        yield f"{event}.{sink}.{locale}"
        yield f"{event}.{sink}"
        yield f"{event}.{locale}"
        yield event


@dataclass(frozen=True, slots=True)
class MessageTemplates:
    """The templates of a shop.

    Attributes:
        names: of those that can be rendered.
        templates: compiled.
    """

    names: frozenset[str]
    templates: TemplateSet

    def name(self, event_type: str, sink: str, locale: str) -> str | None:
        """Return the name of the template for a message; None for the built-in text."""
        return next((name for name in candidates(event_type, sink, locale) if name in self.names), None)

    def message(
        self,
        name: str,
        rich_format: RichFormat,
        wire: Mapping[str, Any],
        *,
        hides_buyer: bool = False,
        is_example: bool = False,
    ) -> RichMessage:
        """Write a message by a template. A message that is too long is cut.

        Args:
            name: of the template.
            rich_format: how values are written; it writes what the template does not.
            wire: the notification's JSON object.
            hides_buyer: leave out what SHOP_BUYER_FIELDS names, because the message may reach a log.
            is_example: a message that is too long is an error.

        Raises:
            BadTemplateError: whatever went wrong.
        """
        made = self._rendered(name, rich_format, wire, hides_buyer=hides_buyer)
        # Only these lines: no value has a line break, and no other separator may make one.
        lines = [line for part in made.split("\n") if (line := plain(part).strip())]
        if not lines:
            raise BadTemplateError(name, 0, Text("renders nothing; its first line is the title"))
        if is_example and len(made) > MAX_OUTPUT:
            raise BadTemplateError(name, 0, Text("renders more than {most:,} characters", most=MAX_OUTPUT))
        title, *facts = shortened(lines)
        return RichMessage(
            title=one_line(title, MAX_VALUE),
            facts=tuple(facts),
            url=wire["data"].get("admin_url") or "",
            url_text=rich_format.texts.words["open_order"],
        )

    def _rendered(
        self, name: str, rich_format: RichFormat, wire: Mapping[str, Any], *, hides_buyer: bool
    ) -> str:
        if hides_buyer:
            wire = {**wire, "data": {**wire["data"], "buyer": {}}}
        found = values(rich_format, wire)
        formats = Formats(
            money=lambda amount: rich_format.money(amount, found[DATA]),
            date=rich_format.time,
            quantity=rich_format.quantity,
        )
        return self.templates.render(name, found, formats)


def values(rich_format: RichFormat, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return all values of a template for a notification. No text has a line break or a control character."""
    ready = rich_format.values(wire)
    data = dict.fromkeys(DATA_FIELDS) | _clean(wire["data"])
    items = [
        {
            "name": one["name"],
            "quantity": rich_format.quantity(one["quantity"]),
            "total": rich_format.money(one["total"], data) if one["total"] else "",
            "line": rich_format.item(one),
        }
        for one in (_item(item) for item in data["items"] or ())
    ]
    more = data["more_items"] or 0
    line = RichMessage(
        "",
        items=tuple(one["line"] for one in items),
        more_items=more,
        more_text=rich_format.texts.words["more_items"],
    )
    texts = dict.fromkeys(TEXTS, "") | {name: text for name, text in ready.items() if name in TEXTS}
    return {
        **texts,
        "id": one_line(wire["source_id"], MAX_VALUE),
        "event": wire["event_type"],
        "level": wire["level"],
        "title": one_line(wire["title"], MAX_VALUE),
        "message": one_line(wire["message"], MAX_VALUE),
        "created_at": rich_format.time(wire["created_at"], TIME),
        "items_line": line.items_line,
        "url": data["admin_url"] or "",
        "paid": bool(data["paid"]),
        "fully_refunded": bool(data["fully_refunded"]),
        "items": items,
        "more_items": more,
        DATA: {
            **data,
            "buyer": dict.fromkeys(BuyerField, "") | (data["buyer"] or {}),
            "shop": dict.fromkeys(("id", "name", "address")) | (data["shop"] or {}),
        },
    }


def shortened(lines: list[str]) -> list[str]:
    """Return the first lines that have MAX_OUTPUT characters at most; at least a part of the first one."""
    room, kept = MAX_OUTPUT, list[str]()
    for line in lines:
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    return kept or [lines[0][:MAX_OUTPUT]]


def _item(item: Mapping[str, Any]) -> dict[str, str]:
    """Return a line of an order; one of an earlier version may lack facts."""
    return {name: item.get(name) or "" for name in ("name", "quantity", "total")}


def _clean(value: Any, depth: int = 0) -> Any:
    """Return a JSON value in which every text is a single line."""
    match value:
        case str():
            return one_line(value, MAX_VALUE)
        case dict() if depth < MAX_DEPTH:
            return {one_line(str(key), MAX_VALUE): _clean(one, depth + 1) for key, one in value.items()}
        case list() | tuple() if depth < MAX_DEPTH:
            return [_clean(one, depth + 1) for one in value]
        case bool() | int() | float() | None:
            return value
    return None
