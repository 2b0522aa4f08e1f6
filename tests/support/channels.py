"""What each channel is sent: records the requests of Apprise's services, and writes them for a reader."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from shop_poller.core.grouping import GroupFormat
from shop_poller.core.messages import Locale, order_notification
from shop_poller.core.model import BuyerField, Delivery, EventType, Notification, OrderEvent, OrderItem
from shop_poller.core.rich_message import RichMessage, rich_body
from shop_poller.locales import texts
from support.deliveries import delivery
from support.notifications import NOW, examples, message_format, order, rich_format

CHANNELS = {
    "telegram": "tgram://123456789:AAabcdefghijklmnopqrstuvwxyz12345678/777",
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
    "discord": "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "mattermost": "mmosts://mattermost.example/abcdefghijklmnopqrstuvwxyz",
    "teams": "workflows://host.example/workflow-id/signature",
    "markdown": "gotify://gotify.example/token?format=markdown",
    "ntfy": "ntfy://topic",
    "pushover": f"pover://{'u' * 30}@{'t' * 30}",
}
"""The addresses of the channels whose messages are written down."""
MORE_CHANNELS = {
    "telegram, Markdown": f"{CHANNELS['telegram']}?format=markdown&mdv=2",
    "slack, Markdown": f"{CHANNELS['slack']}?format=markdown",
    "discord, embed": f"{CHANNELS['discord']}?format=markdown",
    "google chat": "gchat://workspace/key/token",
    "rocket.chat": f"rocket://{'a' * 24}/{'b' * 32}@rocket.example/#room?mode=webhook",
    "matrix": "matrixs://matrix.example/token?mode=slack",
    "webex": f"wxteams://{'a' * 80}",
    "zulip": "zulip://bot@organization/abcdefghijklmnopqrstuvwxyz012345/stream",
}
EVIL = (
    "@everyone <!channel> @here <@U123> [x](http://evil.example) ||spoiler|| *b* _i_ ~s~ `c`"
    " <b>t</b> &amp; {{DATE(2026-11-25T00:00:00Z)}}"
)
LOST = {"ts", "timestamp"}
"""Fields with the time of sending."""


@contextmanager
def recorded() -> Iterator[list[dict[str, Any]]]:
    """Collect what Apprise's services post instead of sending it."""
    posted: list[dict[str, Any]] = []

    def post(*about: Any, **what: Any) -> Any:
        body = what.get("data") or what.get("json")
        posted.append(json.loads(body) if isinstance(body, str | bytes) else dict(body or {}))
        answer = mock.Mock(status_code=200, text='{"ok": true, "result": {}}', headers={}, reason="OK")
        is_slack = "hooks.slack.com" in f"{about[1:]} {what.get('url')}"
        answer.content = b"ok" if is_slack else answer.text.encode()
        answer.json.return_value = {"ok": True, "result": {}}
        return answer

    with mock.patch("requests.Session.request", post):
        yield posted


def rich_delivery(locale: Locale, notification: Notification) -> Delivery:
    """A notification to people, as it comes from the outbox."""
    wire = notification.wire()
    return replace(
        delivery(notification.event_id),
        key=notification.key,
        event_type=notification.event_type,
        body=rich_body(wire, rich_format(locale).message(wire)),
    )


def deliveries(locale: Locale) -> Iterator[tuple[str, Delivery]]:
    """Every built-in message, and those that are hard to show, each with a name."""
    all_examples = list(examples(locale))
    for name, notification in all_examples:
        yield name, rich_delivery(locale, notification)
    names = ("Мёд липовый, {} г", "Linden honey, {} g")
    items = tuple(OrderItem(names[locale == "en"].format(n * 10), str(n), "10.00") for n in range(1, 51))
    yield "new, 60 items", new_order(locale, items=items, more_items=10)
    evil = tuple(OrderItem(text, "1", "10.00") for text in (EVIL, "# heading", "- list", "1. list"))
    note = {BuyerField.NOTE: EVIL, BuyerField.EMAIL: "anna_p@here.com"}
    yield (
        "new, with markup everywhere",
        new_order(locale, items=evil, customer=EVIL, payment_method=EVIL, shipping_method=EVIL, buyer=note),
    )
    rows = [rich_delivery(locale, n) for name, n in all_examples if name in {"new", "placed", "failed"}]
    yield "group", GroupFormat(locale, texts(locale)).compose(rows)


def new_order(locale: Locale, **changes: Any) -> Delivery:
    """A new order whose facts are these."""
    event = OrderEvent(EventType.NEW, order(locale, **changes), occurrence=1, paid=True)
    return rich_delivery(locale, order_notification(event, message_format(locale), now=NOW))


def only_title(title: str) -> Delivery:
    """A message without any line below its title, as a template may write it."""
    return replace(delivery(), body=rich_body(json.loads(delivery().body), RichMessage(title)))


def as_text(posted: Any, path: str = "") -> str:
    """Write a JSON value with a line for each field; texts of several lines are indented below it."""
    match posted:
        case dict():
            return "".join(
                as_text(value, f"{path}.{name}" if path else name)
                for name, value in posted.items()
                if name not in LOST
            )
        case list():
            return "".join(as_text(value, f"{path}[{n}]") for n, value in enumerate(posted))
        case str() if "\n" in posted:
            lines = visible(posted).split("\n")
            return f"{path}:\n" + "".join(f"    {line}\n" for line in lines)
    return f"{path}: {visible(str(posted))}\n"


def visible(text: str) -> str:
    """Show characters that nobody sees."""
    return text.replace("\u200b", "<ZWSP>").replace("\r", "<CR>")
