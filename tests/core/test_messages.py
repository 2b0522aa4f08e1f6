"""From an event to the words that people read."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from string import Formatter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core import messages
from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import (
    Locale,
    MessageFormat,
    ShopInfo,
    alert_notification,
    dead_letters_notification,
    event_id,
    money,
    order_notification,
    silence_notification,
)
from shop_poller.core.model import (
    BuyerField,
    EventType,
    Notification,
    Order,
    OrderEvent,
    OrderItem,
    Refund,
    StatusEvent,
    Wait,
    iso,
)

NEW = EventType.NEW
CANCELLED = EventType.CANCELLED
REFUNDED = EventType.REFUNDED
FAILED = EventType.FAILED
PARTIAL = EventType.PARTIALLY_REFUNDED
OVERDUE = EventType.PAYMENT_OVERDUE
SILENCE = EventType.SILENCE
UNHEALTHY = EventType.UNHEALTHY
RECOVERED = EventType.RECOVERED

NOW = datetime(2026, 11, 23, 10, 0, 0, 123_456, tzinfo=UTC)
SINCE = datetime(2026, 11, 23, 9, 50, tzinfo=UTC)
ORDER = Order(
    id=101,
    number="A-101",
    status="processing",
    total="1930.00",
    currency="RUB",
    currency_sign="₽",
    customer="Мария",
    created_at=datetime(2026, 11, 23, 9, 0, tzinfo=UTC),
    modified_at=datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
)
REFUND = Refund(id=7, amount="100.00")
WAIT = Wait(since=SINCE, lasted=timedelta(hours=24, minutes=59))
SHOP_DATA = {"id": "shop.example", "name": "shop.example", "address": None}
RU = MessageFormat(shop_id="shop.example")
EN = MessageFormat(shop_id="shop.example", locale="en")


def told(
    type_: EventType, message_format: MessageFormat = RU, *, order: Order = ORDER, occurrence: int = 1
) -> Notification:
    """The notification of something that happened to order 101."""
    refund = REFUND if type_ is PARTIAL else None
    wait = WAIT if type_ is OVERDUE else None
    event = OrderEvent(type_, order, occurrence=occurrence, paid=True, refund=refund, wait=wait)
    return order_notification(event, message_format, now=NOW)


def alert(
    type_: EventType, message_format: MessageFormat = RU, *, cause: ErrorKind = ErrorKind.AUTHENTICATION
) -> Notification:
    return alert_notification(
        type_, message_format, service="shop.example", cause=cause, since=SINCE, now=NOW
    )


# --- The words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "wire_type", "level", "title", "message"),
    [
        (NEW, "shop.order.new", "info", "Новый заказ", "Заказ #101 на сумму 1930.00 ₽"),
        (CANCELLED, "shop.order.cancelled", "warning", "Заказ отменён", "Клиент отменил заказ #101"),
        (REFUNDED, "shop.order.refunded", "warning", "Возврат средств", "Оформлен возврат по заказу #101"),
        (FAILED, "shop.order.failed", "error", "Ошибка оплаты", "Не удалась оплата заказа #101"),
        (
            PARTIAL,
            "shop.order.partially_refunded",
            "warning",
            "Частичный возврат",
            "По заказу #101 возвращено 100.00 ₽",
        ),
        (
            OVERDUE,
            "shop.order.payment_overdue",
            "warning",
            "Оплата просрочена",
            "Заказ #101 на сумму 1930.00 ₽ ждёт оплаты уже 24 ч",
        ),
    ],
)
def test_an_order_is_described_in_russian_by_default(
    type_: EventType, wire_type: str, level: str, title: str, message: str
) -> None:
    wire = told(type_).wire()

    assert (wire["event_type"], wire["level"]) == (wire_type, level)
    assert (wire["title"], wire["message"]) == (title, message)
    assert (wire["source_module"], wire["source_id"]) == ("shop", "101")


@pytest.mark.parametrize(
    ("type_", "title", "message"),
    [
        (NEW, "New order", "Order #101 for 1930.00 ₽"),
        (CANCELLED, "Order cancelled", "The customer cancelled order #101"),
        (REFUNDED, "Refund", "Order #101 was refunded"),
        (FAILED, "Payment failed", "The payment of order #101 failed"),
        (PARTIAL, "Partial refund", "100.00 ₽ of order #101 was refunded"),
        (OVERDUE, "Payment overdue", "Order #101 for 1930.00 ₽ has been waiting for payment for 24 h"),
    ],
)
def test_an_order_can_be_told_in_english(type_: EventType, title: str, message: str) -> None:
    assert (told(type_, EN).title, told(type_, EN).message) == (title, message)
    assert told(type_, EN).level == told(type_, RU).level
    assert told(type_, EN).event_id == told(type_, RU).event_id


@pytest.mark.parametrize(
    ("amount", "sign", "text"),
    [
        ("1930.00", "₽", "1930.00 ₽"),
        ("0.00", "₽", "0.00 ₽"),
        ("12.5", "$", "12.5 $"),
        ("99.00", "€", "99.00 €"),
        ("5", "zł", "5 zł"),
        ("7000", "KZT", "7000 KZT"),
        ("10.00", "", "10.00"),
    ],
)
def test_money_has_the_sign_of_the_order(amount: str, sign: str, text: str) -> None:
    assert money(amount, sign) == text

    order = replace(ORDER, total=amount, currency_sign=sign)
    assert told(NEW, order=order).message == f"Заказ #101 на сумму {text}"


def test_what_a_shop_writes_is_no_template() -> None:
    odd = replace(ORDER, total="{id}", currency_sign="{0}", customer="{total}")

    assert told(NEW, order=odd).message == "Заказ #101 на сумму {id} {0}"
    assert told(NEW, order=odd).data["customer"] == "{total}"


# --- The data ----------------------------------------------------------------------------------------------

KEYS = {
    *("total", "customer", "status", "number", "currency", "paid", "date_modified", "previous_status"),
    *(
        "refunded_total",
        "payment_method",
        "payment_code",
        "shipping_method",
        "items",
        "more_items",
        "currency_sign",
    ),
    *("admin_url", "shop", "was_announced"),
}


@pytest.mark.parametrize("type_", [NEW, CANCELLED, REFUNDED, FAILED])
def test_the_data_are_these_and_no_more(type_: EventType) -> None:
    assert told(type_).data == {
        "total": "1930.00",
        "customer": "Мария",
        "status": "processing",
        "number": "A-101",
        "currency": "RUB",
        "paid": True,
        "date_modified": "2026-11-23T09:30:00.000Z",
        "previous_status": None,
        "was_announced": False,
        "refunded_total": "0.00",
        "payment_method": None,
        "payment_code": None,
        "shipping_method": None,
        "items": None,
        "more_items": 0,
        "currency_sign": "₽",
        "admin_url": None,
        "shop": {"id": "shop.example", "name": "shop.example", "address": None},
    }


def test_the_data_say_what_was_ordered_how_it_is_paid_and_where_to_open_it() -> None:
    order = replace(
        ORDER,
        items=(OrderItem("Мёд", "2", "1380.00"),),
        more_items=3,
        payment_method="СБП",
        shipping_method="СДЭК",
        refunds=(Refund(7, "100.00"), Refund(8, "50.50")),
        buyer={BuyerField.PHONE: "+7 900"},
    )
    named = replace(RU, shop=ShopInfo("Пасека", "https://shop.example/blog"))
    data = order_notification(
        OrderEvent(NEW, order, occurrence=1, paid=True, previous_status="pending"), named, now=NOW
    ).data

    assert data["items"] == [{"name": "Мёд", "quantity": "2", "total": "1380.00"}]
    assert data["more_items"] == 3
    assert (data["payment_method"], data["shipping_method"]) == ("СБП", "СДЭК")
    assert (data["previous_status"], data["refunded_total"]) == ("pending", "150.50")
    assert data["admin_url"] == "https://shop.example/blog/wp-admin/post.php?post=101&action=edit"
    assert data["shop"] == {"id": "shop.example", "name": "Пасека", "address": "https://shop.example/blog"}
    assert data["buyer"] == {"phone": "+7 900"}


@pytest.mark.parametrize("refunds", [None, (Refund(7, "100.00"), Refund(8, ""))])
def test_a_sum_of_refunds_that_is_not_known_is_not_told(refunds: tuple[Refund, ...] | None) -> None:
    assert told(NEW, order=replace(ORDER, refunds=refunds)).data["refunded_total"] is None


def test_the_data_of_a_partial_refund_name_it() -> None:
    data = told(PARTIAL).data

    assert set(data) == KEYS | {"amount", "refund_id", "fully_refunded"}
    assert (data["amount"], data["refund_id"], data["fully_refunded"]) == ("100.00", 7, False)
    assert data["total"] == "1930.00", "the total stays gross"


def test_the_data_of_an_overdue_payment_say_since_when_it_waits() -> None:
    data = told(OVERDUE).data

    assert set(data) == KEYS | {"awaiting_since", "awaiting_hours"}
    assert data["awaiting_since"] == "2026-11-23T09:50:00.000Z"


@pytest.mark.parametrize(
    ("lasted", "hours"),
    [
        (timedelta(hours=24), "24"),
        (timedelta(hours=2) - timedelta(seconds=1), "1"),
        (timedelta(hours=1), "1"),
        (timedelta(minutes=30), "0.5"),
        (timedelta(minutes=20), "0.33"),
        (timedelta(hours=8784), "8784"),
    ],
)
def test_a_wait_is_told_in_whole_hours_if_it_has_any(lasted: timedelta, hours: str) -> None:
    event = OrderEvent(OVERDUE, ORDER, occurrence=1, paid=False, wait=Wait(SINCE, lasted))

    assert order_notification(event, EN, now=NOW).message.endswith(f" for {hours} h")


def test_the_data_say_whether_it_was_paid() -> None:
    unpaid = OrderEvent(CANCELLED, ORDER, occurrence=1, paid=False)

    assert order_notification(unpaid, RU, now=NOW).data["paid"] is False


@pytest.mark.parametrize("type_", [NEW, CANCELLED, REFUNDED, FAILED, PARTIAL, OVERDUE])
@pytest.mark.parametrize("message_format", [RU, EN], ids=["ru", "en"])
def test_of_the_buyer_only_the_first_name_goes_out_and_only_as_data(
    type_: EventType, message_format: MessageFormat
) -> None:
    wire = told(type_, message_format, order=replace(ORDER, customer="Сигизмунд")).wire()

    assert wire["data"].pop("customer") == "Сигизмунд"
    assert "Сигизмунд" not in json.dumps(wire, ensure_ascii=False)
    del wire["data"]["shop"]
    assert not re.search(r"mail|phone|address|last_name", json.dumps(wire))


# --- On the wire -------------------------------------------------------------------------------------------

FIELDS = {
    *("event_id", "event_type", "level", "source_module", "source_id", "title", "message"),
    *("data", "brand_id", "target_roles", "target_users", "created_at"),
}


@pytest.mark.parametrize(
    "notification",
    [
        told(NEW),
        told(PARTIAL),
        told(OVERDUE),
        alert(UNHEALTHY),
        alert(RECOVERED),
        silence_notification(SINCE, RU, now=NOW),
    ],
    ids=lambda n: str(n.event_type),
)
def test_a_notification_has_these_fields_and_no_more(notification: Notification) -> None:
    sent = json.loads(notification.body())

    assert sent == json.loads(json.dumps(notification.wire()))
    assert set(sent) == FIELDS
    assert sent["created_at"] == "2026-11-23T10:00:00.123Z"
    assert isinstance(sent["data"], dict)
    assert all(
        isinstance(sent[name], str) for name in FIELDS - {"data", "brand_id", "target_roles", "target_users"}
    )


def test_nobody_is_targeted_unless_configured() -> None:
    sent = told(NEW).wire()

    assert [sent[name] for name in ("brand_id", "target_roles", "target_users")] == [None, None, None]


def test_brand_and_targets_are_the_owners() -> None:
    message_format = replace(RU, brand_id="b1", target_roles=("manager",), target_users=("u1", "u2"))

    sent = json.loads(json.dumps(told(NEW, message_format).wire()))

    assert (sent["brand_id"], sent["target_roles"], sent["target_users"]) == ("b1", ["manager"], ["u1", "u2"])


def test_times_go_out_in_utc() -> None:
    moscow = timezone(timedelta(hours=3))
    order = replace(ORDER, modified_at=ORDER.modified_at.astimezone(moscow))

    sent = order_notification(
        OrderEvent(NEW, order, occurrence=1, paid=True), RU, now=NOW.astimezone(moscow)
    ).wire()

    assert sent["created_at"] == "2026-11-23T10:00:00.123Z"
    assert sent["data"]["date_modified"] == "2026-11-23T09:30:00.000Z"


def test_deliveries_of_one_order_keep_their_order() -> None:
    assert told(NEW).key == told(CANCELLED).key
    assert told(NEW).key != told(NEW, order=replace(ORDER, id=102)).key
    assert alert(UNHEALTHY).key == alert(RECOVERED).key
    assert alert(UNHEALTHY).key != told(NEW).key


# --- Levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "level"),
    [(NEW, "info"), (CANCELLED, "warning"), (FAILED, "critical"), (PARTIAL, "warning")],
)
def test_a_receiver_that_knows_other_levels_gets_those(type_: EventType, level: str) -> None:
    assert told(type_, replace(RU, levels={"error": "critical"})).level == level


def test_the_levels_of_alerts_are_mapped_too() -> None:
    message_format = replace(RU, levels={"critical": "error", "info": "debug"})

    assert (
        alert(UNHEALTHY, message_format).level,
        alert(RECOVERED, message_format).level,
    ) == (
        "error",
        "debug",
    )


# --- Ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "type_", "occurrence", "expected"),
    [
        ("101", NEW, 1, "080be474-bc38-5792-a7bb-12fa604100c0"),
        ("101", CANCELLED, 2, "f04884fb-2a9b-52d3-879c-cf6299d1ea8d"),
        ("101", PARTIAL, 7, "da86c4b8-64bf-5cab-b07f-a56a495bd452"),
        ("shop.example", UNHEALTHY, "2026-11-23T09:50:00.000Z", "2dcfa583-0858-5877-92e4-f7a3f9e2b807"),
    ],
)
def test_ids_are_the_same_for_ever(
    subject: str, type_: EventType, occurrence: int | str, expected: str
) -> None:
    # If this fails, every receiver would take the events of the last days for new ones: change it back.
    assert event_id("shop.example", subject, type_, occurrence) == expected


def test_notifications_carry_these_ids() -> None:
    assert told(NEW).event_id == "080be474-bc38-5792-a7bb-12fa604100c0"
    assert told(CANCELLED, occurrence=2).event_id == "f04884fb-2a9b-52d3-879c-cf6299d1ea8d"
    assert told(PARTIAL, occurrence=REFUND.id).event_id == "da86c4b8-64bf-5cab-b07f-a56a495bd452"
    assert alert(UNHEALTHY).event_id == "2dcfa583-0858-5877-92e4-f7a3f9e2b807"


def test_an_id_depends_on_what_happened_and_not_on_when_or_how_it_is_told() -> None:
    later = order_notification(
        OrderEvent(NEW, replace(ORDER, total="5", customer="", status="completed"), occurrence=1, paid=False),
        replace(EN, brand_id="b1", levels={"info": "x"}),
        now=NOW + timedelta(days=1),
    )

    assert later.event_id == told(NEW).event_id


happenings = st.tuples(
    st.sampled_from(["shop.example", "shop.example/1", "shop", ""]) | st.text(max_size=9),
    st.integers(1, 200),
    st.sampled_from([NEW, CANCELLED, REFUNDED, FAILED, PARTIAL]),
    st.integers(1, 200),
)


@given(happenings, happenings)
def test_different_things_have_different_ids(
    one: tuple[str, int, EventType, int], other: tuple[str, int, EventType, int]
) -> None:
    ids = [event_id(shop, str(order), type_, occurrence) for shop, order, type_, occurrence in (one, other)]

    assert (ids[0] == ids[1]) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        ("other.example", "101", NEW, 1),
        ("shop.example", "102", NEW, 1),
        ("shop.example", "101", FAILED, 1),
        ("shop.example", "101", NEW, 2),
    ],
    ids=["shop", "order", "type", "occurrence"],
)
def test_each_part_of_what_happened_tells_ids_apart(other: tuple[str, str, EventType, int]) -> None:
    assert event_id(*other) != event_id("shop.example", "101", NEW, 1)


# --- Events of the owner's own ------------------------------------------------------------------------------

PACKING = StatusEvent(
    "shop.order.packing",
    "warning",
    "Заказ {number} собирается",
    "#{id} / {number} / {total} / {customer} / {status}",
)


def own(
    status_event: StatusEvent = PACKING, message_format: MessageFormat = RU, order: Order = ORDER
) -> Notification:
    event = OrderEvent(status_event.event, order, occurrence=2, paid=True, status_event=status_event)
    return order_notification(event, message_format, now=NOW)


@pytest.mark.parametrize("message_format", [RU, EN], ids=["ru", "en"])
def test_an_event_of_the_owners_own_has_the_owners_words(message_format: MessageFormat) -> None:
    wire = own(message_format=message_format).wire()

    assert (wire["event_type"], wire["level"]) == ("shop.order.packing", "warning")
    assert wire["title"] == "Заказ A-101 собирается"
    assert wire["message"] == "#101 / A-101 / 1930.00 ₽ / Мария / processing"
    assert wire["event_id"] == event_id("shop.example", "101", "shop.order.packing", 2)
    assert wire["data"] == told(NEW).data
    assert (set(wire), wire["source_id"], own().key) == (FIELDS, "101", "101")


def test_its_level_is_mapped_like_any() -> None:
    assert own(message_format=replace(RU, levels={"warning": "warn"})).level == "warn"


def test_what_a_shop_writes_is_no_template_there_either() -> None:
    odd = replace(
        ORDER, total="{id}", currency_sign="{0}", customer="{total}", number="{status}", status="{}"
    )

    assert own(order=odd).title == "Заказ {status} собирается"
    assert own(order=odd).message == "#101 / {status} / {id} {0} / {total} / {}"


# --- Silence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message_format", "title", "message"),
    [
        (
            RU,
            "Нет новых заказов",
            "С 2026-11-23 09:50 UTC не было ни одного оплаченного заказа."
            " Проверьте, работает ли оформление заказа",
        ),
        (
            EN,
            "No new orders",
            "There has been no paid order since 2026-11-23 09:50 UTC. Check whether the checkout works",
        ),
    ],
    ids=["ru", "en"],
)
def test_a_silence_says_since_when_and_what_to_do(
    message_format: MessageFormat, title: str, message: str
) -> None:
    moscow = timezone(timedelta(hours=3))
    notification = silence_notification(SINCE.astimezone(moscow), message_format, now=NOW)

    assert (notification.title, notification.message) == (title, message)
    assert (notification.event_type, notification.level) == ("shop.silence", "warning")
    assert (notification.key, notification.source_id) == ("silence", "shop.example")
    assert notification.data == {"since": "2026-11-23T09:50:00.000Z", "shop": SHOP_DATA}
    assert notification.created_at == NOW


def test_a_silence_goes_to_whom_the_owner_wants_at_the_level_that_the_receiver_knows() -> None:
    message_format = replace(RU, brand_id="b1", target_roles=("manager",), levels={"warning": "warn"})
    notification = silence_notification(SINCE, message_format, now=NOW)

    assert (notification.brand_id, notification.target_roles, notification.level) == (
        "b1",
        ("manager",),
        "warn",
    )


def test_a_silence_has_one_id_and_the_next_another() -> None:
    first = silence_notification(SINCE, RU, now=NOW)

    assert silence_notification(SINCE, EN, now=NOW + timedelta(days=1)).event_id == first.event_id
    assert silence_notification(SINCE + timedelta(seconds=1), RU, now=NOW).event_id != first.event_id
    assert first.event_id == event_id("shop.example", "silence", "shop.silence", "2026-11-23T09:50:00.000Z")


# --- Alerts ------------------------------------------------------------------------------------------------


def test_an_alert_goes_to_the_administrators() -> None:
    message_format = replace(RU, brand_id="b1", target_roles=("manager",), target_users=("u1",))

    sent = json.loads(json.dumps(alert(UNHEALTHY, message_format).wire()))

    assert (sent["event_type"], sent["level"]) == ("service.unhealthy", "critical")
    assert (sent["target_roles"], sent["target_users"]) == (["administrator"], None)
    assert sent["data"] == {
        "service_name": "shop.example",
        "error_type": "AuthenticationError",
        "since": "2026-11-23T09:50:00.000Z",
        "shop": SHOP_DATA,
    }


def test_an_alert_about_dead_letters_says_how_many_and_why() -> None:
    message_format = replace(EN, brand_id="b1", levels={"critical": "error"})

    written = messages.dead_letters_notification(
        "crm", message_format, count=3, reason="answered 422", since=SINCE, now=NOW
    )

    sent = json.loads(json.dumps(written.wire()))
    assert set(sent) == FIELDS
    assert (sent["event_type"], sent["target_roles"]) == ("service.dead_letters", ["administrator"])
    assert (sent["source_id"], sent["brand_id"], sent["created_at"]) == (
        "shop.example",
        "b1",
        "2026-11-23T10:00:00.123Z",
    )
    assert sent["data"] == {
        "service_name": "crm",
        "count": 3,
        "reason": "answered 422",
        "since": "2026-11-23T09:50:00.000Z",
        "shop": SHOP_DATA,
    }
    assert all(word in sent["message"] for word in ("crm", "3", "answered 422"))
    assert written.key == "alert:dead-letters:crm"
    others = [
        messages.dead_letters_notification(sink, EN, count=9, reason="", since=since, now=NOW)
        for sink, since in [("crm", SINCE), ("other", SINCE), ("crm", NOW)]
    ]
    assert [other.event_id == written.event_id for other in others] == [True, False, False]


@pytest.mark.parametrize(
    ("notification", "key"),
    [
        (alert(UNHEALTHY, replace(RU, brand_id="b1")), "alert:shop.example"),
        (alert(RECOVERED, replace(RU, brand_id="b1")), "alert:shop.example"),
        (messages.sample_notification(replace(RU, brand_id="b1"), now=NOW), "test"),
    ],
    ids=["unhealthy", "recovered", "test"],
)
def test_what_is_about_ourselves_has_a_key_too_and_says_which_shop_and_brand(
    notification: Notification, key: str
) -> None:
    assert notification.key == key
    assert (notification.source_id, notification.brand_id) == ("shop.example", "b1")


def test_the_end_of_an_alert_is_information() -> None:
    sent = json.loads(json.dumps(alert(RECOVERED).wire()))

    assert (sent["event_type"], sent["level"]) == ("service.recovered", "info")
    assert sent["target_roles"] == ["administrator"]
    assert sent["data"] == alert(UNHEALTHY).data
    assert sent["event_id"] != alert(UNHEALTHY).event_id


@pytest.mark.parametrize(
    ("type_", "message_format", "title", "message"),
    [
        (
            UNHEALTHY,
            RU,
            "Сервис недоступен",
            "shop.example: ключи не приняты или без права смотреть заказы."
            " Последний успех: 2026-11-23T09:50:00.000Z",
        ),
        (RECOVERED, RU, "Сервис восстановлен", "shop.example снова работает"),
        (
            UNHEALTHY,
            EN,
            "Service unhealthy",
            "shop.example: keys refused, or without the right to view orders."
            " Last success: 2026-11-23T09:50:00.000Z",
        ),
        (RECOVERED, EN, "Service recovered", "shop.example works again"),
    ],
)
def test_an_alert_says_what_does_not_work_and_since_when(
    type_: EventType, message_format: MessageFormat, title: str, message: str
) -> None:
    assert (alert(type_, message_format).title, alert(type_, message_format).message) == (
        title,
        message,
    )


def test_two_outages_have_two_ids_and_one_has_one() -> None:
    later = alert_notification(
        UNHEALTHY,
        RU,
        service="shop.example",
        cause=ErrorKind.TIMEOUT,
        since=SINCE + timedelta(hours=1),
        now=NOW,
    )

    assert later.event_id != alert(UNHEALTHY).event_id
    assert alert(UNHEALTHY, cause=ErrorKind.TIMEOUT).event_id == alert(UNHEALTHY).event_id


# --- Trying it out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message_format", "title", "message"),
    [
        (RU, "Проверка связи", "Уведомления магазина shop.example доходят. Ничего делать не нужно"),
        (EN, "Test", "Notifications of shop.example arrive. Nothing needs to be done"),
    ],
    ids=["ru", "en"],
)
def test_a_trial_notification_is_harmless_and_like_any_other(
    message_format: MessageFormat, title: str, message: str
) -> None:
    sent = messages.sample_notification(message_format, now=NOW).wire()

    assert set(sent) == FIELDS
    assert (sent["event_type"], sent["level"]) == ("service.test", "info")
    assert (sent["title"], sent["message"], sent["data"]) == (title, message, {"shop": SHOP_DATA})


# --- Both catalogues ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", get_args(Locale))
def test_every_event_has_its_words_in_every_language(locale: Locale) -> None:
    texts = {
        **messages.ORDER_TEXTS[locale],
        **messages.ALERT_TEXTS[locale],
        SILENCE: messages.SILENCE_TEXTS[locale],
        EventType.DEAD_LETTERS: messages.DEAD_LETTER_TEXTS[locale],
        EventType.TEST: messages.TEST_TEXTS[locale],
    }

    # Those of digests are made from numbers: tests/core/test_digests.py.
    assert {*texts, EventType.DIGEST} == set(messages.LEVELS) == set(EventType)
    assert all(title and message for title, message in texts.values())


@pytest.mark.parametrize("type_", sorted(set(EventType) - {EventType.TEST, EventType.DIGEST}))
def test_both_languages_say_the_same_things(type_: EventType) -> None:
    said = []
    for locale in get_args(Locale):
        _, template = {
            **messages.ORDER_TEXTS[locale],
            **messages.ALERT_TEXTS[locale],
            SILENCE: messages.SILENCE_TEXTS[locale],
            EventType.DEAD_LETTERS: messages.DEAD_LETTER_TEXTS[locale],
        }[type_]
        said.append({field for _, field, _, _ in Formatter().parse(template) if field})

    assert said[0] == said[1]


def test_both_languages_know_the_same_causes() -> None:
    assert set(messages.CAUSES["ru"]) == set(messages.CAUSES["en"])


@pytest.mark.parametrize("cause", list(ErrorKind))
@pytest.mark.parametrize("locale", get_args(Locale))
def test_whatever_the_cause_an_alert_can_be_written(cause: ErrorKind, locale: Locale) -> None:
    message_format = replace(RU, locale=locale)

    assert re.match(r"shop\.example: \S.*\. ", alert(UNHEALTHY, message_format, cause=cause).message)
    assert alert(UNHEALTHY, message_format, cause=cause).data["error_type"] == cause


@pytest.mark.parametrize(
    ("message_format", "title", "message"),
    [
        (RU, "Не доставлено", "crm: недоставленных уведомлений 3, последняя причина: HTTP 400"),
        (EN, "Dead letters", "crm: notifications given up: 3, the last one because HTTP 400"),
    ],
    ids=["ru", "en"],
)
def test_dead_letters_are_told_to_administrators(
    message_format: MessageFormat, title: str, message: str
) -> None:
    sent = dead_letters_notification(
        "crm", message_format, count=3, reason="HTTP 400", since=SINCE, now=NOW
    ).wire()
    key = "alert:dead-letters:crm"
    assert (sent["event_type"], sent["level"]) == ("service.dead_letters", "error")
    assert (sent["title"], sent["message"]) == (title, message)
    assert (sent["source_id"], sent["target_roles"]) == ("shop.example", ("administrator",))
    assert sent["event_id"] == event_id("shop.example", key, "service.dead_letters", iso(SINCE))
    assert sent["data"] == {
        "service_name": "crm",
        "count": 3,
        "reason": "HTTP 400",
        "since": "2026-11-23T09:50:00.000Z",
        "shop": SHOP_DATA,
    }


def test_a_sink_with_a_renderer_gets_its_body_and_all_others_json() -> None:
    notification = alert_notification(
        UNHEALTHY, RU, service="shop.example", cause=ErrorKind.TIMEOUT, since=SINCE, now=NOW
    )
    format_ = replace(RU, renderers={"own": lambda told: f'"{told.event_id}"'})
    assert format_.render("own", notification) == f'"{notification.event_id}"'
    assert format_.render("another", notification) == notification.body()
