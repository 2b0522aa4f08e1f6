"""The reader of a page: language, rights, and how numbers and times are written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shop_poller.core.messages import Locale
from shop_poller.core.model import iso
from shop_poller.core.translatable import translated
from shop_poller.locales import catalogue, page_texts
from shop_poller.web.markup import Markup, fill, foreign
from shop_poller.web.words import event_name

FUTURE_S = 60.0
"""A time that is less than this in the future counts as now: two clocks are compared."""


@dataclass(frozen=True, slots=True)
class ViewContext:
    """The reader of a page.

    Attributes:
        locale: the language.
        locale_chosen: the language was chosen by ?lang=, so links keep it.
        no_refresh: the page does not refresh itself.
        actions_enabled: whether there are actions: SHOP_ADMIN_TOKEN is set.
        signed_in: this browser is signed in, and may act.
        reads_by_token: it is signed in, and may only read.
        home: the address of the overview of several shops; "" if there is none for this reader.
        query: what the reader chose to see, as a part of an address; "" for no choice.
        notice: the result of an action; "" for none.
    """

    locale: Locale
    locale_chosen: bool = False
    no_refresh: bool = False
    actions_enabled: bool = False
    signed_in: bool = False
    notice: str = ""
    reads_by_token: bool = False
    home: str = ""
    query: str = ""

    def with_query(self, query: str) -> "ViewContext":
        """Return the same reader with another choice of what to see."""
        return replace(self, query=query)

    def say(self, text: str, **values: object) -> str:
        """Return a text in the reader's language."""
        return page_texts(self.locale)[text].format(**values)

    def line(self, text: str) -> str:
        """Return a line of the code, such as an error, in the reader's language if it is a Text."""
        return text if self.locale == "en" else translated(text, catalogue(self.locale))

    def number(self, count: int) -> str:
        """Return a count as it is written in that language."""
        return f"{count:,}".replace(",", "\u202f" if self.locale == "ru" else ",")

    def age(self, seconds: float) -> str:
        """Return a rough duration."""
        for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
            if seconds >= 2 * size:
                return self.say(unit, n=f"{seconds / size:.0f}")
        return self.say("s", n=f"{max(0.0, seconds):.0f}")

    def ago(self, instant: datetime | None, now: datetime) -> Markup:
        """Return how long ago an instant was."""
        if instant is None:
            return fill("{never}", never=self.say("never"))
        seconds = (now - instant).total_seconds()
        # A time in the future was stored while a clock was ahead; the page reports that clock above.
        text = self.say("ago" if seconds >= -FUTURE_S else "to come", age=self.age(abs(seconds)))
        return fill('<time datetime="{iso}" title="{iso}">{text}</time>', iso=iso(instant), text=text)

    def clock(self, instant: datetime, now: datetime) -> str:
        """Return what a clock shows at an instant, in its time zone; the day, too, if it is far."""
        return f"{instant:%H:%M}" if instant - now < timedelta(hours=20) else f"{instant:%d.%m. %H:%M}"

    def page_url(self, *, lang: Locale | None = None, no_refresh: bool | None = None) -> str:
        """Return the address of the page, relative to /, with these or the present choices."""
        parameters = [f"lang={lang or self.locale}"] if lang or self.locale_chosen else []
        parameters += ["still=1"] if (self.no_refresh if no_refresh is None else no_refresh) else []
        parameters += [self.query] if self.query else []
        return f"./?{'&'.join(parameters)}" if parameters else "./"

    def action_url(self, name: str) -> str:
        """Return the address of an action that leads back to the page with the same choices."""
        query = f"&{self.query}" if self.query else ""
        return f"actions/{name}?lang={self.locale}{'&still=1' if self.no_refresh else ''}{query}"

    def event(self, event_type: str, titles: Mapping[str, str]) -> Markup:
        """Return the name of an event; the title if it is the owner's own."""
        name = event_name(event_type, self.locale)
        return fill("{name}", name=name) if name else foreign(titles.get(event_type, event_type))

    def about(self, key: str) -> Markup:
        """Return the subject of an event: an order or a service."""
        if key.isdigit():
            return fill("{text}", text=self.say("order", key=key))
        return foreign(key.removeprefix("alert:").removeprefix("dead-letters:"))
