"""Title and message of a digest's JSON, in Russian and in English. Pure.

Messages for people are in core/digest_lines.py; they have more words, and need a large library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shop_poller.core.messages import Locale


@dataclass(frozen=True, slots=True)
class DigestWords:
    """The words of one language. In braces are the names of values.

    Attributes:
        name: what a digest is called where its period is not known.
        titles: by the kind of period.
        numbers: by the name of a field of core.tallies.OrderTally, in the order of the message.
        money: joins a count and its sums.
    """

    name: str
    titles: Mapping[str, str]
    numbers: Mapping[str, str]
    money: str


WORDS: "Mapping[Locale, DigestWords]" = {
    "ru": DigestWords(
        "Итоги",
        {"day": "Итоги дня", "week": "Итоги недели"},
        {
            "orders": "заказов {count}",
            "failed": "неудачных оплат {count}",
            "cancelled": "отмен {count}",
            "refunds": "возвратов {count}",
        },
        " на ",
    ),
    "en": DigestWords(
        "Digest",
        {"day": "Daily digest", "week": "Weekly digest"},
        {
            "orders": "orders {count}",
            "failed": "failed payments {count}",
            "cancelled": "cancellations {count}",
            "refunds": "refunds {count}",
        },
        " for ",
    ),
}
WITH_MONEY = ("orders", "refunds")
"""The numbers whose sums are shown."""


def digest_texts(data: Mapping[str, Any], locale: "Locale") -> tuple[str, str]:
    """Return title and message of a digest.

    Args:
        data: of its notification.
        locale: the language.
    """
    words = WORDS[locale]
    days = [_day(data[name]) for name in ("first_day", "last_day")]
    numbers = [
        text.replace("{count}", str(data[name]["count"]))
        + (_sums(data[name], words) if name in WITH_MONEY else "")
        for name, text in words.numbers.items()
    ]
    return words.titles[data["period"]], f"{'–'.join(dict.fromkeys(days))}: {', '.join(numbers)}"


def _sums(number: Mapping[str, Any], words: DigestWords) -> str:
    sums = [f"{one['sum']} {one['currency_sign'] or one['currency']}".strip() for one in number["sums"]]
    return words.money + " + ".join(sums) if sums else ""


def _day(text: str) -> str:
    return f"{date.fromisoformat(text):%d.%m.%Y}"
