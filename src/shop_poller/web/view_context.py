"""For whom a page is made: the words, numbers and times as they read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shop_poller.core.messages import Locale
from shop_poller.core.model import iso
from shop_poller.web.markup import Markup, fill, foreign
from shop_poller.web.words import TEXTS, event_name

FUTURE_S = 60.0
"""So far in the future is now, where two clocks are compared."""


@dataclass(frozen=True, slots=True)
class ViewContext:
    """For whom a page is made.

    Attributes:
        locale: the language.
        chosen: it was chosen by ?lang=, and is to stay.
        still: the page does not look again by itself.
        acts: there is SHOP_ADMIN_TOKEN.
        signed_in: and this browser showed it.
        notice: what was just done, in words; "" for nothing.
    """

    locale: Locale
    chosen: bool = False
    still: bool = False
    acts: bool = False
    signed_in: bool = False
    notice: str = ""

    def say(self, text: str, **values: object) -> str:
        """A text of ours in that language."""
        return TEXTS[self.locale][text].format(**values)

    def number(self, count: int) -> str:
        """A count as it is written in that language."""
        return f"{count:,}".replace(",", "\u202f" if self.locale == "ru" else ",")

    def age(self, seconds: float) -> str:
        """How long something takes or took, roughly."""
        for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
            if seconds >= 2 * size:
                return self.say(unit, n=f"{seconds / size:.0f}")
        return self.say("s", n=f"{max(0.0, seconds):.0f}")

    def ago(self, instant: datetime | None, now: datetime) -> Markup:
        """How long ago something was."""
        if instant is None:
            return fill("{never}", never=self.say("never"))
        seconds = (now - instant).total_seconds()
        # What is still to come was dated by a clock that was ahead; the page says so above.
        text = self.say("ago" if seconds >= -FUTURE_S else "to come", age=self.age(abs(seconds)))
        return fill('<time datetime="{iso}" title="{iso}">{text}</time>', iso=iso(instant), text=text)

    def place(self, *, lang: Locale | None = None, still: bool | None = None) -> str:
        """The address of the page in this look, or in another, relative to /."""
        wanted = [f"lang={lang or self.locale}"] if lang or self.chosen else []
        wanted += ["still=1"] if (self.still if still is None else still) else []
        return f"./?{'&'.join(wanted)}" if wanted else "./"

    def action(self, name: str) -> str:
        """The address of an action, after which the page is in this look again."""
        return f"actions/{name}?lang={self.locale}{'&still=1' if self.still else ''}"

    def event(self, event_type: str, titles: Mapping[str, str]) -> Markup:
        """What an event is called; of the owner's own their titles say it."""
        name = event_name(event_type, self.locale)
        return fill("{name}", name=name) if name else foreign(titles.get(event_type, event_type))

    def about(self, key: str) -> Markup:
        """What an event is about: an order, or a service."""
        if key.isdigit():
            return fill("{text}", text=self.say("order", key=key))
        return foreign(key.removeprefix("alert:").removeprefix("dead-letters:"))
