"""Notifications of every event, as examples: for golden files, pictures and tests of sinks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from shop_poller.core import examples as built_in
from shop_poller.core.messages import Locale, MessageFormat, ShopInfo
from shop_poller.core.model import Notification, Order
from shop_poller.core.rich_format import RichFormat
from shop_poller.locales import texts

SHOP = "shop.example"
NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)


def message_format(locale: Locale) -> MessageFormat:
    return MessageFormat(
        SHOP, locale, shop=ShopInfo("Пасека" if locale == "ru" else "Apiary", f"https://{SHOP}")
    )


def rich_format(locale: Locale, *, names_shop: bool = False) -> RichFormat:
    return RichFormat(locale, texts(locale), ZoneInfo("Europe/Moscow"), names_shop=names_shop)


def order(locale: Locale, **changes: Any) -> Order:
    return built_in.example_order(locale, now=NOW, **changes)


def examples(locale: Locale) -> Iterator[tuple[str, Notification]]:
    """Every built-in event, with a name for each example."""
    return built_in.examples(message_format(locale), now=NOW)
