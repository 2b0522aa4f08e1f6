"""Writes a message for one service of Apprise: in the format that it takes, and not longer than it takes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from typing import NamedTuple

from apprise import NotifyFormat, NotifyType
from apprise.conversion import convert_between
from apprise.plugins import NotifyBase

from shop_poller.core.model import Delivery, EventType
from shop_poller.core.rich_message import RICH, RichMessage
from shop_poller.sinks.apprise.literal import (
    COMMON,
    FORMATS_TITLE,
    NO_MENTIONS,
    OF_MARKDOWN,
    OF_PLAIN,
    Markdown,
    without_mentions,
)

TITLE_ROOM = 50
"""Characters that a service may need for the markup of a title in the body."""
APPRISES_OWN = frozenset({"tgram"})
"""Apprise escapes their Markdown well."""
MAIL = frozenset({"mailto", "mailtos"})
"""They take plain text too. From HTML, Apprise makes both parts of a mail."""
LOSES_NO_BREAK_SPACES = frozenset({"tgram"})
"""Apprise makes blanks of them, at which a line may break in the middle of a sum; not of narrow ones."""
NARROW = str.maketrans({"\u00a0": "\u202f"})
TYPES = {"warning": NotifyType.WARNING, "error": NotifyType.FAILURE, "critical": NotifyType.FAILURE}


class PlainText(NamedTuple):
    """A message whose body was written by an earlier version of this program, or in the style `classic`."""

    title: str
    body: str


class SentText(NamedTuple):
    """What is given to Apprise."""

    title: str
    body: str
    format: NotifyFormat


def message(delivery: Delivery) -> tuple[PlainText | RichMessage, NotifyType]:
    """Return text and type of a message."""
    notification = json.loads(delivery.body)
    kind = TYPES.get(notification["level"], NotifyType.INFO)
    if delivery.event_type == EventType.RECOVERED:
        kind = NotifyType.SUCCESS
    if RICH in notification:
        return RichMessage.of_json(notification[RICH]), kind
    return PlainText(notification["title"], notification["message"]), kind


def sent_text(service: NotifyBase, scheme: str, text: PlainText | RichMessage) -> SentText:
    """Return a message as it is given to a service, so that what people typed is shown as they typed it.

    Args:
        service: of Apprise.
        scheme: of its URL.
        text: the message.
    """
    return _writer(service, scheme).sent(text)


def shown_text(service: NotifyBase, scheme: str, text: PlainText | RichMessage) -> str:
    """Return the message as its readers see it, without markup."""
    if isinstance(text, PlainText):
        return f"{text.title}\n{text.body}"
    fitted = _writer(service, scheme).fitted(text)
    link = [_PLAIN_LINK.format(text=fitted.url_text, url=fitted.url)] if fitted.url else []
    return "\n".join(filter(None, (text.title, *fitted.lines, *link)))


_PLAIN_LINK = "{text}: {url}"


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes messages in the format that a service takes.

    Attributes:
        format: of the text, for Apprise.
        markdown: how the service reads Markdown; None if it gets plain text, HTML, or Apprise's own Markdown.
        has_mentions: a text may notify other people.
        formats_title: the service formats the title as it formats the body.
        title_limit: characters of a title; 0 if it is a part of the body.
        body_limit: characters of a body, with the title if that is a part of it.
        is_mail: it is sent by e-mail.
        narrows: no-break spaces are sent as narrow ones.
    """

    format: NotifyFormat
    markdown: Markdown | None
    has_mentions: bool
    formats_title: bool
    title_limit: int
    body_limit: int
    is_mail: bool
    narrows: bool

    def sent(self, text: PlainText | RichMessage) -> SentText:
        title = self._title(text.title)
        if isinstance(text, PlainText):
            body = self._joined([self._literal(line) for line in text.body.split("\n")])
        else:
            body = self._body(self.fitted(text))
        if body:
            return SentText(title, body, self.format)
        # Apprise sends nothing without a body.
        return SentText(title if self.title_limit else "", self._only(text.title), self.format)

    def fitted(self, rich: RichMessage) -> RichMessage:
        """Return the message in at most `body_limit`. Items are left out first, then lines."""
        room = self.body_limit - TITLE_ROOM - (0 if self.title_limit else len(self._title(rich.title)))
        if 0 < self.title_limit < len(rich.title):  # the whole title is shown above the items
            rich = replace(rich, text="\n".join(filter(None, (rich.title, rich.text))))
        for count in range(len(rich.items), -1, -1):
            shorter = rich.with_items(count)
            if len(self._body(shorter)) <= room:
                return shorter
        while len(self._body(shorter)) > room and (shorter.personal or shorter.facts):
            shorter = replace(
                shorter,
                personal=shorter.personal[:-1],
                facts=shorter.facts if shorter.personal else shorter.facts[:-1],
            )
        return shorter

    def _title(self, title: str) -> str:
        """Return the title; one that is too long ends with "…"."""
        if not self.formats_title:
            title = without_mentions(title) if self.has_mentions else title
            return _cut(title, self.title_limit) if self.title_limit else title
        shown = self._literal(title)
        if 0 < self.title_limit < len(shown):
            shown = self._literal(_cut(title, 2 * self.title_limit - len(shown)))
        return self.markdown.bold.format(shown) if self.markdown and shown else shown

    def _only(self, title: str) -> str:
        """Return the body of a message that has only a title."""
        if self.markdown is not None:
            return self.markdown.bold.format(self._literal(title))
        literal = self._literal(title)
        return f"<b>{literal}</b>" if self.format == NotifyFormat.HTML else literal

    def _body(self, rich: RichMessage) -> str:
        lines = [self._literal(line) for part in rich.lines for line in part.split("\n")]
        return self._joined([*lines, self._link(rich)] if rich.url else lines)

    def _joined(self, lines: list[str]) -> str:
        if self.format == NotifyFormat.HTML:
            return "<br/>".join(lines)
        return (self.markdown.line_break if self.markdown else "\n").join(lines)

    def _link(self, rich: RichMessage) -> str:
        if self.markdown is not None:
            return self.markdown.link.format(text=rich.url_text, url=rich.url)
        match self.format:
            case NotifyFormat.HTML:
                address = escape(rich.url)
                link = f'<a href="{address}">{escape(rich.url_text)}</a>'
                # Apprise makes the plain part of a mail from the HTML, without the addresses of links.
                return f"{link}<br/><small>{address}</small>" if self.is_mail else link
            case NotifyFormat.MARKDOWN:
                return f"[{rich.url_text}]({rich.url})"
            case _:
                return _PLAIN_LINK.format(text=rich.url_text, url=rich.url)

    def _literal(self, line: str) -> str:
        if self.markdown is not None:
            return self.markdown.literal(line)
        safe = without_mentions(line) if self.has_mentions else line
        if self.format == NotifyFormat.HTML:
            # Apprise would write &nbsp; for each blank, so no line would wrap.
            return escape(safe.translate(NARROW) if self.narrows else safe, quote=False)
        convert: Callable[..., str] = convert_between
        return convert(NotifyFormat.TEXT, self.format, content=safe)


def _writer(service: NotifyBase, scheme: str) -> _Writer:
    wish = NotifyFormat.HTML if scheme in MAIL else NotifyFormat.TEXT
    resolve = getattr(service, "resolve_format", None)  # before Apprise 2, a service supports one format
    target: NotifyFormat = resolve(wish) if resolve else service.notify_format
    markdown = None
    if target == NotifyFormat.TEXT:
        markdown = OF_PLAIN.get(scheme)
    elif target == NotifyFormat.MARKDOWN and scheme not in APPRISES_OWN:
        markdown = OF_MARKDOWN.get(scheme, COMMON)
    is_part_of_body = service.title_maxlen <= 0
    is_discord_text = (
        scheme == "discord" and target == NotifyFormat.TEXT
    )  # Apprise puts the title into the text
    return _Writer(
        format=target,
        markdown=markdown,
        has_mentions=scheme not in NO_MENTIONS,
        formats_title=is_part_of_body or scheme in FORMATS_TITLE,
        title_limit=0 if is_part_of_body or is_discord_text else service.title_maxlen,
        body_limit=service.body_maxlen,
        is_mail=scheme in MAIL,
        narrows=scheme in LOSES_NO_BREAK_SPACES,
    )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
