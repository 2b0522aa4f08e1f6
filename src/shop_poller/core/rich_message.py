"""A notification for people, in parts, as the body of a delivery holds it. Pure; imports no large library."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

RICH = "rich"
"""Where the JSON body of a delivery to people holds its rich message."""


@dataclass(frozen=True, slots=True)
class RichMessage:
    """A notification for people, as plain text in parts.

    Attributes:
        title: one line.
        text: what the owner wrote for an event of their own; "" for all others.
        items: what was ordered, e.g. "Honey ×2".
        more_items: how many are not in `items`.
        more_text: says so, with {count} for the number.
        is_list: each item is a line of its own.
        facts: lines about payment, delivery and so on.
        personal: lines about the buyer, see SHOP_BUYER_FIELDS; they must not reach a log.
        url: the order in the shop's admin; "" if there is none.
        url_text: what to show for it.
    """

    title: str
    text: str = ""
    items: tuple[str, ...] = ()
    more_items: int = 0
    more_text: str = "{count}"
    is_list: bool = False
    facts: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    url: str = ""
    url_text: str = ""

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "RichMessage":
        """Return a message that `body` wrote."""
        known = {name: found[name] for name in cls.__slots__ if name in found}
        known |= {name: tuple(known[name]) for name in ("items", "facts", "personal") if name in known}
        return cls(**known)

    def with_items(self, count: int) -> "RichMessage":
        """Return the message with that many items at most; it says how many others there are."""
        left_out = max(0, len(self.items) - count)
        return replace(self, items=self.items[:count], more_items=self.more_items + left_out)

    @property
    def items_line(self) -> str:
        """All items in one line; "" if there are none."""
        return ", ".join(self._shown_items) if self.items else ""

    @property
    def _shown_items(self) -> list[str]:
        more = [self.more_text.replace("{count}", str(self.more_items))] if self.more_items else []
        return [*self.items, *more]

    @property
    def lines(self) -> list[str]:
        """The lines below the title, without the link."""
        items = self._shown_items if self.is_list else [self.items_line]
        return [line for line in (self.text, *items, *self.facts, *self.personal) if line]


def rich_body(wire: Mapping[str, Any], message: RichMessage) -> str:
    """Return the body of a delivery to people: the notification's JSON, and its rich message."""
    return json.dumps({**wire, RICH: asdict(message)}, ensure_ascii=False)
