"""The lines of a digest for people: numbers, and how they compare with the period before. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from babel.dates import format_date
from babel.numbers import format_percent, get_currency_precision

from shop_poller.core.digest_texts import WITH_MONEY
from shop_poller.core.money import money, plural_form
from shop_poller.core.tallies import OrderTally

if TYPE_CHECKING:
    from shop_poller.core.rich_format import Texts

NOTHING: Mapping[str, Any] = {"count": 0, "unknown_amounts": 0, "sums": []}
DAY = "d MMMM"
MINUS = "\u2212"
MOST_TIMES = 100
"""A larger change says nothing."""
OTHERS = tuple(name for name in OrderTally.__slots__ if name != "orders")


class DigestLines:
    """Writes the lines of one digest.

    Args:
        data: of its notification.
        texts: of the language.
        locale: the language.
    """

    def __init__(self, data: Mapping[str, Any], texts: "Texts", locale: str) -> None:
        self._data = data
        self._words = texts.words
        self._counts = texts.counts
        self._locale = locale
        self._period = "week" if data.get("period") == "week" else "day"
        self._previous: Mapping[str, Any] | None = data.get("previous")

    @property
    def title_values(self) -> dict[str, str]:
        """The values of the title: what it is, and its days, e.g. "вторник, 24 ноября" or "16–22 ноября"."""
        days = ""
        if self._data.get("first_day") and self._data.get("last_day"):
            first, last = (date.fromisoformat(self._data[name]) for name in ("first_day", "last_day"))
            days = self._days(first, last)
        return {"digest": self._words[f"digest_{self._period}"], "days": days}

    def _days(self, first: date, last: date) -> str:
        if first == last:
            return str(format_date(first, "EEEE, d MMMM", locale=self._locale))
        end = format_date(last, DAY, locale=self._locale)
        if first.month == last.month:
            return f"{first.day}–{end}"
        return f"{format_date(first, DAY, locale=self._locale)} – {end}"

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        orders, before = self._now_and_before("orders")
        if orders["count"]:
            yield self._orders(orders, before)
            yield from self._averages(orders, before)
        else:
            yield self._words["digest_no_orders"] + self._was(before)
        for name in OTHERS:
            number, before = self._now_and_before(name)
            if number["count"] or (before or NOTHING)["count"]:
                text = self._words[f"digest_{name}"].replace("{count}", self._count(name, number))
                yield text + self._was(before, name)
        unknown = sum(self._now_and_before(name)[0]["unknown_amounts"] for name in WITH_MONEY)
        if unknown:
            yield self._words["digest_unknown"].replace("{count}", str(unknown))

    def _now_and_before(self, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        return self._data.get(name) or NOTHING, None if self._previous is None else self._previous[name]

    def _orders(self, orders: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
        """Return e.g. "12 заказов (было 10) · 84 300 ₽ (+18 % к прошлой неделе)"."""
        form = plural_form(orders["count"], locale=self._locale)
        text = self._counts["digest_orders"][form].replace("{count}", str(orders["count"]))
        sums = self._compared(orders["sums"], before, "sum", tail=self._words[f"digest_to_{self._period}"])
        return " · ".join([text + self._was(before), *([sums] if sums else [])])

    def _averages(self, orders: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[str]:
        if averages := self._compared(orders["sums"], before, "average"):
            yield self._words["digest_average"].replace("{amount}", averages)

    def _count(self, name: str, number: Mapping[str, Any]) -> str:
        """Return a count, with its sums if they are shown, e.g. "2 на 1 500 ₽"."""
        sums = self._compared(number["sums"], None, "sum") if name in WITH_MONEY else ""
        if not sums:
            return str(number["count"])
        return self._words["digest_with_sum"].replace("{count}", str(number["count"])).replace("{sum}", sums)

    def _was(self, before: Mapping[str, Any] | None, name: str = "") -> str:
        """Return e.g. " (было 10)"; "" if there is nothing to compare with."""
        if before is None:
            return ""
        return " " + self._words["digest_was"].replace("{count}", self._count(name, before))

    def _compared(
        self,
        sums: Sequence[Mapping[str, Any]],
        before: Mapping[str, Any] | None,
        value: str,
        *,
        tail: str = "",
    ) -> str:
        """Return the amounts of all currencies, each with its change in percent if it has one."""
        earlier = {one["currency"]: Decimal(one[value]) for one in (before or NOTHING)["sums"]}
        found = []
        for one in sums:
            text = self._money(one, value)
            old = earlier.get(one["currency"])
            if old is not None and 0 < old * MOST_TIMES > Decimal(one[value]):
                change = _change(Decimal(one[value]), old, self._locale)
                text += f" ({change}{tail})"
            found.append(text)
        return " + ".join(found)

    def _money(self, one: Mapping[str, Any], value: str) -> str:
        amount, currency = Decimal(one[value]), one["currency"]
        if value == "average":
            places = get_currency_precision(currency)
            amount = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        sign = one["currency_sign"] or currency
        return money(f"{amount:f}", currency=currency, sign=sign, locale=self._locale)


def _change(now: Decimal, before: Decimal, locale: str) -> str:
    """Return a change in whole percent with its sign, e.g. "+18 %"."""
    change = ((now - before) / before).quantize(Decimal("0.01"), ROUND_HALF_UP)
    sign = "+" if change > 0 else MINUS if change < 0 else ""
    return f"{sign}{format_percent(abs(change), locale=locale)}"
