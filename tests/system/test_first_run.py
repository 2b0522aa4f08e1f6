"""The first run from nothing: the state file is made, and the events come word by word."""

import re
import sqlite3
import stat
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from support.receivers import Post
from support.site import SHOP_ID, Site

NOTIFY_SECRET = "whsec_" + "c2hvcC1wb2xsZXIgdGVzdHMgc2lnbiB3aXRoIHRoaXM="
FIELDS = {
    "event_id", "event_type", "level", "source_module", "source_id", "title", "message", "data", "brand_id",
    "target_roles", "target_users", "created_at",
}  # fmt: skip
DATA = {
    "total", "customer", "status", "number", "currency", "paid", "date_modified",
    "amount", "refund_id", "fully_refunded", "previous_status", "was_announced", "refunded_total",
    "payment_method", "payment_code", "shipping_method", "items", "more_items", "currency_sign",
    "admin_url", "shop",
}  # fmt: skip


def words(post: Post) -> tuple[str, ...]:
    """What a notification says, and how loudly."""
    said = post.notification
    return said["event_type"], said["source_id"], said["level"], said["title"], said["message"]


def test_the_events_come_from_nothing_word_by_word(site: Site) -> None:
    shop = site.shop
    new = shop.create_order("processing", total="1930.00", first_name="Ольга")
    cancelled = shop.create_order("pending", total="12.50")
    shop.set_status(cancelled, "cancelled")
    refunded = shop.create_order("processing", total=900)
    shop.refund(refunded)
    failed = shop.create_order("pending", total=4000)
    shop.set_status(failed, "failed")
    part = shop.create_order("processing", total=2500)
    refund_id = shop.refund(part, "100.50")
    pending = shop.create_order("pending", total=777)

    done = site.once()

    assert (done.code, done.complaints) == (0, [])
    assert done.lines == [
        "read 6 orders, imported 0, found 6 events",
        "delivered 6, waiting 0, failed 0",
    ]
    assert sorted(map(words, site.receiver.taken)) == sorted(
        [
            ("shop.order.new", str(new), "info", "Новый заказ", f"Заказ #{new} на сумму 1930.00 ₽"),
            (
                "shop.order.cancelled", str(cancelled), "warning", "Заказ отменён",
                f"Клиент отменил заказ #{cancelled}",
            ),
            (
                "shop.order.refunded", str(refunded), "warning", "Возврат средств",
                f"Оформлен возврат по заказу #{refunded}",
            ),
            (
                "shop.order.failed", str(failed), "error", "Ошибка оплаты",
                f"Не удалась оплата заказа #{failed}",
            ),
            ("shop.order.new", str(part), "info", "Новый заказ", f"Заказ #{part} на сумму 2500.00 ₽"),
            (
                "shop.order.partially_refunded", str(part), "warning", "Частичный возврат",
                f"По заказу #{part} возвращено 100.50 ₽",
            ),
        ]
    )  # fmt: skip
    assert site.receiver.story(part) == ["new", "partially_refunded"]
    assert site.receiver.story(pending) == []
    for post in site.receiver.taken:
        said = post.notification
        assert set(said) == FIELDS
        assert said["source_module"] == "shop"
        assert (said["brand_id"], said["target_roles"], said["target_users"]) == (None, None, None)
        assert uuid.UUID(said["event_id"]).version == 5
        created_at = datetime.fromisoformat(said["created_at"])
        assert created_at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
        order = shop.order(int(said["source_id"]))
        assert said["data"]["total"] == f"{order.total:.2f}"
        assert said["data"]["customer"] == order.customer.first_name
        assert said["data"]["status"] == order.status
        assert set(said["data"]) <= DATA
    (given_back,) = (p for p in site.receiver.taken if p.event == "partially_refunded")
    assert given_back.notification["data"]["amount"] == "100.50"
    assert given_back.notification["data"]["refund_id"] == refund_id

    again = site.once()

    assert (again.code, again.complaints) == (0, [])
    assert again.lines == [
        "read 6 orders, imported 0, found 0 events",
        "delivered 0, waiting 0, failed 0",
    ]
    assert len(site.receiver.posts) == 6
    assert site.served.count("DELETE") == 2
    assert site.served.endpoint.sessions.of(site.served.key.user) == []


def test_a_webhook_can_be_verified_and_repeats_be_told(site: Site) -> None:
    site.shop.create_order("processing")
    assert site.once(SHOP_NOTIFY_SECRET=NOTIFY_SECRET).code == 0
    (post,) = site.receiver.taken
    assert post.headers["content-type"] == "application/json"
    assert post.headers["idempotency-key"] == post.headers["webhook-id"] == post.event_id
    assert Webhook(NOTIFY_SECRET).verify(post.body, dict(post.headers)) == post.notification

    # The state is lost: the same change has the same id all the same.
    site.state.unlink()
    assert site.once().code == 0
    assert site.receiver.event_ids == [post.event_id, post.event_id]
    assert "webhook-signature" not in site.receiver.posts[-1].headers


def test_nothing_but_the_shop_needs_to_be_set(site: Site) -> None:
    order = site.shop.create_order("processing", total=1930, first_name="Ольга")
    done = site.once(SHOP_NOTIFY_URLS=None, SHOP_STATE_URL=None, SHOP_ID=None, SHOP_POLLING_INTERVAL=None)
    assert (done.code, done.complaints) == (0, [])
    line, *summary = done.lines
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d \+ Новый заказ №{order} · 1 930 ₽ · Ольга \| .+",
        line,
    )
    assert summary == ["read 1 orders, imported 0, found 1 events", "delivered 1, waiting 0, failed 0"]

    file = site.home / ".local" / "state" / "shop-poller" / "shop-poller.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with sqlite3.connect(file) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_systemd_says_where_the_state_is(site: Site) -> None:
    directory = site.home / "systemd"
    directory.mkdir()
    done = site.once(SHOP_STATE_URL=None, STATE_DIRECTORY=str(directory))
    assert done.code == 0
    assert (directory / "shop-poller.db").is_file()
    assert not (site.home / ".local").exists()


def test_settings_come_from_env_toml_and_files_of_secrets(site: Site) -> None:
    site.shop.create_order("processing")
    settings = site.environment()
    (site.home / ".env").write_text(f"WOOCOMMERCE_MCP_URL={settings.pop('WOOCOMMERCE_MCP_URL')}\n")
    secret = site.home / "consumer-secret"
    secret.write_text(settings.pop("WOOCOMMERCE_CONSUMER_SECRET") + "\n")
    toml = site.home / "shop.toml"
    toml.write_text('shop_id = "from.toml"\nshop_locale = "en"\n')
    changes = {"WOOCOMMERCE_MCP_URL": None, "WOOCOMMERCE_CONSUMER_SECRET": None, "SHOP_ID": None}
    done = site.run(
        "run", "--once", "--config", str(toml), WOOCOMMERCE_CONSUMER_SECRET_FILE=str(secret), **changes
    )
    assert (done.code, done.complaints) == (0, [])
    (post,) = site.receiver.taken
    assert post.notification["title"] == "New order"
    assert site.status(SHOP_ID="from.toml", WOOCOMMERCE_CONSUMER_SECRET="x")["known_orders"] == 1


@pytest.mark.parametrize("locale", ["ru", "en", "klingon"])
def test_what_is_wrong_is_said_in_the_language_that_the_settings_name(site: Site, locale: str) -> None:
    (site.home / ".env").write_text(f"SHOP_LOCALE={locale}\nSHOP_SENDERS=many\n")
    done = site.run("run", "--once")
    assert done.code == 2
    english = (
        "SHOP_SENDERS (from .env): input should be a valid integer, unable to parse string as an integer"
    )
    russian = "SHOP_SENDERS (из .env): нужно целое число (сейчас: 'many')"
    assert f"shop-poller: {russian if locale == 'ru' else english}" in done.stderr


def test_what_was_there_before_is_imported_in_silence_and_then_judged_rightly(site: Site) -> None:
    shop, now = site.shop, datetime.now(UTC)
    open_one = shop.create_order("processing", created=now - timedelta(days=3))
    shop.create_order("on-hold", created=now - timedelta(hours=2))
    done_one = shop.create_order("completed", created=now - timedelta(days=10))
    shop.create_order("completed", created=now - timedelta(days=60))  # too long ago to be imported
    just_now = shop.create_order("processing", created=now - timedelta(minutes=50))

    assert site.once().lines == [
        "read 4 orders, imported 3, found 1 events",
        "delivered 1, waiting 0, failed 0",
    ]
    assert site.receiver.events == [(str(just_now), "new")]

    shop.set_status(open_one, "cancelled")
    shop.refund(done_one)
    assert site.once().code == 0
    assert sorted(site.receiver.events) == sorted(
        [(str(just_now), "new"), (str(open_one), "cancelled"), (str(done_one), "refunded")]
    )
    assert {post.notification["source_id"] for post in site.receiver.posts} == {
        str(order) for order in (just_now, open_one, done_one)
    }
    assert site.status()["shop"] == SHOP_ID
