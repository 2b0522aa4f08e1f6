"""When a digest is due, about which days, and what it says."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.digest_lines import MOST_TIMES
from shop_poller.core.digests import Digest, DigestSchedule, Period, digest_notification, parse_digest
from shop_poller.core.messages import Locale, in_language
from shop_poller.core.model import EventType
from shop_poller.core.rich_format import RichFormat
from shop_poller.core.tallies import Amounts, CurrencySum, OrderTally
from shop_poller.locales import texts
from support.notifications import message_format, rich_format

MOSCOW, BERLIN, APIA = ZoneInfo("Europe/Moscow"), ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia")
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
DAILY, WEEKLY = parse_digest("daily@09:00"), parse_digest("weekly:mon@09:00")


def there(text: str, zone: ZoneInfo = MOSCOW, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


def days(first: str, last: str) -> Period:
    return Period(date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("daily@09:00", DigestSchedule(None, time(9))),
        ("daily@0:00", DigestSchedule(None, time(0))),
        ("weekly:sun@23:59", DigestSchedule(6, time(23, 59))),
    ],
)
def test_a_schedule_is_read(text: str, expected: DigestSchedule) -> None:
    assert parse_digest(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "daily", "daily@", "daily@24:00", "daily@9", "daily:mon@09:00", "weekly@09:00",
        "weekly:sunday@09:00", "weekly:mon,tue@09:00", "Daily@09:00", "daily@09:00 ",
    ],
)  # fmt: skip
def test_anything_else_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^should be daily@HH:MM or weekly:DAY@HH:MM"):
        parse_digest(text)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-25T08:59:59", days("2026-11-23", "2026-11-23")),
        ("2026-11-25T09:00", days("2026-11-24", "2026-11-24")),
        ("2026-11-25T23:59", days("2026-11-24", "2026-11-24")),
        ("2026-12-01T09:00", days("2026-11-30", "2026-11-30")),
        ("2027-01-01T09:00", days("2026-12-31", "2026-12-31")),
        ("2028-03-01T09:00", days("2028-02-29", "2028-02-29")),
    ],
)
def test_a_daily_digest_is_about_the_day_before(now: str, expected: Period) -> None:
    assert DAILY.latest(there(now), MOSCOW) == expected


@pytest.mark.parametrize(
    ("schedule", "now", "expected"),
    [
        (WEEKLY, "2026-11-30T08:59", days("2026-11-16", "2026-11-22")),
        (WEEKLY, "2026-11-30T09:00", days("2026-11-23", "2026-11-29")),
        (WEEKLY, "2026-12-06T23:59", days("2026-11-23", "2026-11-29")),
        (WEEKLY, "2026-12-07T09:00", days("2026-11-30", "2026-12-06")),
        (parse_digest("weekly:fri@17:00"), "2026-11-28T00:00", days("2026-11-20", "2026-11-26")),
    ],
)
def test_a_weekly_digest_is_about_the_seven_days_before(
    schedule: DigestSchedule, now: str, expected: Period
) -> None:
    assert schedule.latest(there(now), MOSCOW) == expected


def test_the_period_before_has_the_same_length() -> None:
    assert days("2026-11-23", "2026-11-29").previous == days("2026-11-16", "2026-11-22")
    assert days("2026-12-01", "2026-12-01").previous == days("2026-11-30", "2026-11-30")


def test_on_the_days_when_the_clocks_are_set() -> None:
    ahead, back = days("2026-03-29", "2026-03-29"), days("2026-10-25", "2026-10-25")
    assert ahead.ends_at(BERLIN) - ahead.starts_at(BERLIN) == timedelta(hours=23)
    assert back.ends_at(BERLIN) - back.starts_at(BERLIN) == timedelta(hours=25)
    # 2:30 does not exist on the first of these days: it is due at 3:30. On the other it is due at the first.
    at_night = parse_digest("daily@02:30")
    for now, is_due in (("2026-03-29T03:29", False), ("2026-03-29T03:30", True), ("2026-10-25T02:29", False)):
        assert (at_night.latest(there(now, BERLIN), BERLIN).end.day in {29, 25}) == is_due
    for fold in (0, 1):
        assert at_night.latest(there("2026-10-25T02:30", BERLIN, fold=fold), BERLIN) == days(
            "2026-10-24", "2026-10-24"
        )


def test_a_day_that_a_zone_left_out_has_no_length() -> None:
    missing = days("2011-12-30", "2011-12-30")
    assert missing.starts_at(APIA) == missing.ends_at(APIA)


@given(
    st.integers(0, 366 * 24 * 60).map(lambda minutes: YEAR + timedelta(minutes=minutes)),
    st.sampled_from([DAILY, WEEKLY, parse_digest("daily@02:30"), parse_digest("weekly:sun@02:30")]),
    st.sampled_from([MOSCOW, BERLIN, None]),
)
def test_the_latest_digest_is_due_and_the_next_one_is_not(
    now: datetime, schedule: DigestSchedule, zone: ZoneInfo | None
) -> None:
    period = schedule.latest(now, zone)
    length = timedelta(days=1 if schedule.weekday is None else 7)
    assert period.end - period.first == length
    assert period.ends_at(zone) <= now
    later = schedule.latest(now + length + timedelta(hours=2), zone)
    assert later.first in {period.end, period.end + length}
    assert datetime.combine(period.end + length, schedule.at, zone).astimezone(UTC) > now


# --- what it says ---

WEEK, DAY = days("2026-11-23", "2026-11-29"), days("2026-11-29", "2026-11-29")
NOW = there("2026-11-30T09:00")


def amounts(count: int, amount: str = "", *more: tuple[str, str, str], unknown: int = 0) -> Amounts:
    sums = {"RUB": CurrencySum("₽", Decimal(amount), count)} if amount else {}
    sums |= {currency: CurrencySum(sign, Decimal(of), 1) for currency, sign, of in more}
    return Amounts(count, unknown, sums)


def lines(digest: Digest, locale: Locale = "ru", *, names_shop: bool = False) -> list[str]:
    wire = digest_notification("owner", digest, message_format(locale), now=NOW).wire()
    written: RichFormat = rich_format(locale, names_shop=names_shop)
    message = written.message(wire)
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in (message.title, *message.facts)]


def test_each_number_is_compared_with_the_week_before() -> None:
    now = OrderTally(amounts(12, "84300"), amounts(3), amounts(2), amounts(1, "990"))
    before = OrderTally(amounts(10, "71440"), amounts(1), amounts(0), amounts(2, "1500"))
    assert lines(Digest(WEEK, now, before)) == [
        "Итоги недели · 23–29 ноября",
        "12 заказов (было 10) · 84 300 ₽ (+18 % к предыдущей неделе)",
        "Средний заказ: 7 025 ₽ (−2 %)",
        "Неудачные оплаты: 3 (было 1)",
        "Отмены: 2 (было 0)",
        "Возвраты: 1 на 990 ₽ (было 2 на 1 500 ₽)",
    ]
    assert lines(Digest(WEEK, now, before), "en", names_shop=True)[:3] == [
        "Weekly digest · 23–29 November · Apiary",
        "12 orders (10 before) · ₽84,300 (+18% vs. the week before)",
        "Average order: ₽7,025 (−2%)",
    ]


def test_without_a_period_before_nothing_is_compared() -> None:
    assert lines(Digest(DAY, OrderTally(amounts(2, "100.50"), refunds=amounts(1, "5")), None)) == [
        "Итоги дня · воскресенье, 29 ноября",
        "2 заказа · 100,50 ₽",
        "Средний заказ: 50,25 ₽",
        "Возвраты: 1 на 5 ₽",
    ]


def test_a_day_without_orders_says_so() -> None:
    assert lines(Digest(DAY, OrderTally(), None))[1:] == ["Заказов не было"]
    assert lines(Digest(DAY, OrderTally(), OrderTally(amounts(10, "71440"))))[1:] == [
        "Заказов не было (было 10)"
    ]
    assert lines(Digest(DAY, OrderTally(), OrderTally()), "en")[1:] == ["There were no orders (0 before)"]


def test_currencies_are_apart() -> None:
    now = OrderTally(Amounts(3, 0, amounts(2, "200", ("JPY", "¥", "1000")).sums))
    before = OrderTally(amounts(1, "100", ("EUR", "€", "7")))
    assert lines(Digest(DAY, now, before))[1:] == [
        "3 заказа (было 1) · 200 ₽ (+100 % к предыдущему дню) + 1 000 ¥",
        "Средний заказ: 100 ₽ (0 %) + 1 000 ¥",
    ]
    yen = OrderTally(Amounts(3, 0, {"JPY": CurrencySum("", Decimal(1000), 3)}))
    assert lines(Digest(DAY, yen, None))[2] == "Средний заказ: 333 JPY"


def test_a_change_that_says_nothing_is_left_out() -> None:
    now = OrderTally(amounts(1, "100"))
    for before in ("0", str(Decimal(100) / MOST_TIMES), "0.00000001", "-5"):
        assert lines(Digest(DAY, now, OrderTally(amounts(1, before))))[1] == "1 заказ (было 1) · 100 ₽"


def test_what_is_not_in_the_sums_is_said() -> None:
    now = OrderTally(amounts(2, "100", unknown=1), refunds=amounts(1, unknown=1))
    assert lines(Digest(DAY, now, None))[-2:] == ["Возвраты: 1", "Сумма неизвестна, в итоги не вошла: 2"]
    assert lines(Digest(DAY, OrderTally(amounts(1, unknown=1)), None))[1:] == [
        "1 заказ",
        "Сумма неизвестна, в итоги не вошла: 1",
    ]


@pytest.mark.parametrize(
    ("since", "previous", "first_line"),
    [
        ("2026-11-16T00:00", 2, []),
        ("2026-11-16T00:01", None, []),
        ("2026-11-23T00:00", None, []),
        ("2026-11-23T00:01", None, ["Подсчёт идёт с 23 ноября, 00:01"]),
    ],
)
def test_only_what_was_counted_from_its_beginning_is_whole(
    since: str, previous: int | None, first_line: list[str]
) -> None:
    tallies = {date(2026, 11, day): OrderTally(amounts(1, "10")) for day in (15, 16, 22, 23, 29, 30)}
    digest = Digest.of(WEEK, tallies, tallied_since=there(since), zone=MOSCOW)
    assert digest.tally == OrderTally(amounts(2, "20"))
    assert (digest.previous and digest.previous.orders.count) == previous
    assert [line for line in lines(digest) if line.startswith("Подсчёт")] == first_line


def test_a_week_that_begins_in_another_month() -> None:
    assert lines(Digest(days("2026-11-30", "2026-12-06"), OrderTally(), None))[0] == (
        "Итоги недели · 30 ноября – 6 декабря"
    )


def test_the_notification() -> None:
    digest = Digest(DAY, OrderTally(amounts(3, "100"), refunds=amounts(1, "5", ("EUR", "", "7"))), None)
    one = digest_notification("owner", digest, replace(message_format("ru"), levels={"info": "i"}), now=NOW)
    assert (one.event_type, one.level, one.key) == (EventType.DIGEST, "i", "digest")
    assert (one.title, one.message) == (
        "Итоги дня",
        "29.11.2026: заказов 3 на 100 ₽, неудачных оплат 0, отмен 0, возвратов 1 на 5 ₽ + 7 EUR",
    )
    assert one.data["orders"] == {
        "count": 3,
        "unknown_amounts": 0,
        "sums": [
            {"currency": "RUB", "currency_sign": "₽", "sum": "100", "average": "33.33", "count": 3},
        ],
    }
    assert one.data["previous"] is None
    english = in_language(one, "en")
    assert (english.title, english.message) == (
        "Daily digest",
        "29.11.2026: orders 3 for 100 ₽, failed payments 0, cancellations 0, refunds 1 for 5 ₽ + 7 EUR",
    )


def test_its_id_follows_from_shop_sink_and_period() -> None:
    def of(sink: str, period: Period, shop: str = "shop.example") -> str:
        written = replace(message_format("ru"), shop_id=shop)
        return digest_notification(sink, Digest(period, OrderTally(), None), written, now=NOW).event_id

    assert of("owner", WEEK) == of("owner", WEEK) == "ee1974d5-9eb8-5b2c-adc1-53dc7edaaa99"
    assert len({of("owner", WEEK), of("owner", DAY), of("crm", WEEK), of("owner", WEEK, "b")}) == 4


def test_every_word_is_used() -> None:
    for locale in ("ru", "en"):
        assert texts(locale).counts["digest_orders"].keys() >= {"one", "many" if locale == "ru" else "other"}
