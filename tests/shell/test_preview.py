"""`preview`: what each sink would receive, from past events or examples, and what has changed."""

import importlib
import json
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import typer

from shop_poller.cli.preview import PreviewedEvent, as_now, example_events, lines, moment, read_past
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core.model import Notification
from shop_poller.ports import Ack, MoveToDeadLetters, NewDelivery, Store
from shop_poller.runtime.factory import make_message_format
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores import open_store
from support.deliveries import batch
from support.golden import check_golden
from support.notifications import NOW, examples

GOLDEN = Path(__file__).parent.parent / "data/golden"
MOSCOW = ZoneInfo("Europe/Moscow")
BOT = "apprise+tgram://123456789:AAabcdefghijklmnopqrstuvwxyz12345678/777#tg"
URLS = f"{BOT} https://crm.example/x?events=new#crm"
TEMPLATE = "Заказ {{ number }} · {{ total }}\n{{ items_line }}\n{{ phone }}"


@pytest.fixture(autouse=True)
def _apprise_is_loaded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Apprise imports modules that Python itself says are old
        importlib.import_module("apprise").Apprise.instantiate("json://loaded")


def settings(path: Path | None = None, **more: Any) -> Settings:
    known = {
        "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
        "shop_notify_urls": URLS,
        "shop_timezone": "Europe/Moscow",
        "shop_state_url": f"sqlite:///{path}" if path else None,
    }
    return Settings.of(known | more, parse_sink=parse_sink)


def shown(event: PreviewedEvent, by: Settings, *, sink: str | None = None) -> list[str]:
    sinks = [one for one in by.sinks if sink in {None, one.name}]
    return [line.replace("\u00a0", " ") for line in lines(event, sinks, make_message_format(by), by)]


def past(notification: Notification, by: Settings) -> PreviewedEvent:
    """An event as it was sent with these settings."""
    message_format = make_message_format(by)
    sent = {sink.name: message_format.render(sink.name, notification) for sink in by.sinks}
    return PreviewedEvent("about", notification, sent)


NEW = dict(examples("ru"))["new"]
PERSONAL = dict(examples("ru"))["new, with personal data"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", datetime(2026, 11, 25, tzinfo=MOSCOW)),
        ("yesterday", datetime(2026, 11, 24, tzinfo=MOSCOW)),
        ("3d", NOW - timedelta(days=3)),
        ("12h", NOW - timedelta(hours=12)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=MOSCOW)),
        ("2026-11-20T18:30", datetime(2026, 11, 20, 18, 30, tzinfo=MOSCOW)),
        ("2026-11-20T18:30:00.000Z", datetime(2026, 11, 20, 18, 30, tzinfo=UTC)),
        (None, datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_since_when(text: str | None, expected: datetime) -> None:
    assert moment(text, zone=MOSCOW, now=NOW) == expected


def test_a_day_begins_at_midnight_of_the_shop_not_at_that_of_utc() -> None:
    late = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)
    assert moment("today", zone=MOSCOW, now=late) == datetime(2026, 11, 26, tzinfo=MOSCOW)
    assert moment("today", zone=None, now=late).tzinfo is not None


@pytest.mark.parametrize(
    "text", ["", "soon", "3", "3m", "-3d", "2026-13-01", "2027-01-01", "1999-01-01", "99999d"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text, zone=MOSCOW, now=NOW)


def test_the_examples_read_as_written_down() -> None:
    by = settings(shop_templates={"shop.order.new.tg": TEMPLATE, "service.test": "Проверка {{ shop }}"})
    found = example_events(by, make_message_format(by), NOW)
    check_golden(
        GOLDEN / "preview.txt", "".join(f"{line}\n" for one in found for line in shown(one, by, sink="tg"))
    )


def test_without_a_change_a_past_event_is_shown_as_it_was_sent() -> None:
    by = settings()
    assert shown(past(NEW, by), by, sink="tg") == [
        "about",
        "  tg",
        "    Новый заказ №1002 · 5 990 ₽ · Анна",
        "    Мёд липовый ×2, Прополис ×1",
        "    СБП · доставка: СДЭК",
        f"    Открыть заказ: {NEW.data['admin_url']}",
        "",
    ]


def test_programs_would_receive_the_json() -> None:
    by = settings(shop_templates={"default": "title"})
    about, name, *json_lines, end = shown(past(NEW, settings()), by, sink="crm")
    assert (about, name, end) == ("about", "  crm", "")
    assert json.loads("\n".join(json_lines)) == json.loads(NEW.body().replace("\u00a0", " "))


def test_with_a_template_the_difference_is_shown() -> None:
    by = settings(shop_templates={"shop.order.new": TEMPLATE})
    found = shown(past(NEW, settings()), by)
    assert found[:8] == [
        "about",
        "  tg (differs from what was sent)",
        "    - Новый заказ №1002 · 5 990 ₽ · Анна",
        "    + Заказ 1002 · 5 990 ₽",
        "      Мёд липовый ×2, Прополис ×1",
        "    - СБП · доставка: СДЭК",
        f"      Открыть заказ: {NEW.data['admin_url']}",
        "  crm",
    ]


def test_a_sink_that_is_new_and_one_that_is_filtered_now_are_named() -> None:
    before, by = settings(shop_notify_urls=BOT), settings(shop_notify_urls=f"{BOT} console:")
    assert "  console: (did not receive it)" in shown(past(NEW, before), by)
    muted = settings(shop_notify_urls=BOT.replace("#", "?events=failed#"))
    found = shown(past(NEW, before), muted)
    assert found[1] == "  tg (would not receive it now)"
    assert all(line.startswith("    - ") for line in found[2:-1])
    assert shown(PreviewedEvent("about", NEW, {}), muted) == ["about", "  no sink receives it", ""]


def test_personal_data_that_is_not_announced_any_more_is_left_out() -> None:
    body = PERSONAL.body()
    all_of_it = as_now(body, "1002", settings(shop_buyer_fields="phone email last_name address note"))
    assert all_of_it is not None
    assert all_of_it.wire() == json.loads(body)
    some = as_now(body, "1002", settings(shop_buyer_fields="phone"))
    assert some is not None
    assert some.data["buyer"] == {"phone": "+7 900 000-00-00"}
    none = as_now(body, "1002", settings())
    assert none is not None
    assert "buyer" not in none.data


@pytest.mark.parametrize("body", ["{}", "[]", '{"data": 7}', '{"data": {}}', '{"data": {"buyer": 7}}'])
def test_a_body_of_an_unknown_form_is_left_out(body: str) -> None:
    assert as_now(body, "1", settings()) is None


def test_a_sink_that_cannot_be_used_is_named() -> None:
    by = settings(shop_notify_urls="apprise+nothing://a/b#odd")
    with pytest.raises(SettingsError, match="SHOP_NOTIFY_URLS: odd: Apprise cannot use this URL"):
        shown(past(NEW, by), by)


async def put(store: Store, by: Settings, *notifications: Notification) -> None:
    message_format = make_message_format(by)
    rows = [
        NewDelivery(sink.name, one, message_format.render(sink.name, one))
        for one in notifications
        for sink in by.sinks
    ]
    await store.commit(by.shop, batch(*rows, now=NOW))


@pytest.mark.anyio
async def test_past_events_are_read_from_the_state_whatever_became_of_them(tmp_path: Path) -> None:
    by = settings(tmp_path / "state.db")
    assert await read_past(by, NOW - timedelta(days=1), MOSCOW) == [], "there is no state yet"
    store = await open_store(by.state, shop=by.shop, prefix=by.shop_redis_prefix)
    assert await store.take()
    await store.register(by.shop, NOW)
    test = dict(examples("ru"))["test"]
    await put(store, by, NEW, test)
    first, second = await store.claim("tg", now=NOW, limit=9)
    await store.record_outcomes([Ack(first), MoveToDeadLetters(second, "refused")], NOW)
    await store.aclose()

    found = await read_past(by, NOW - timedelta(days=1), MOSCOW)
    assert {one.about for one in found} == {
        "2026-11-25 15:00  shop.order.new  1002",
        "2026-11-25 15:00  service.test  test",
    }
    for one in found:
        assert one.sent is not None
        assert one.sent.keys() == {"tg", "crm"}
    new = next(one for one in found if one.notification.key == "1002")
    assert new.notification.wire() == json.loads(NEW.body())
    assert "differs" not in " ".join(shown(new, by))
    assert await read_past(by, NOW + timedelta(seconds=1), MOSCOW) == []
