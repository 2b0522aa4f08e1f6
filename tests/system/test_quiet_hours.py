"""Quiet hours and groups of real processes: what waits is shown, and arrives in one message."""

from datetime import UTC, datetime, timedelta

from shop_poller.core.quiet import DAYS
from support.site import Site

TODAY = datetime.now(UTC).weekday()
QUIET = ",".join(DAYS[(TODAY + day) % 7] for day in (0, 1, 2, 3))
"""Quiet for days, whenever the test runs."""


def test_what_was_held_arrives_as_one_message(site: Site) -> None:
    sink = "console:?group=30s#boss"
    zone = {"SHOP_TIMEZONE": "UTC"}
    assert site.once(SHOP_NOTIFY_URLS=sink).code == 0
    for _ in range(5):
        site.shop.create_order("processing", total="1000.00")

    once = site.once(SHOP_NOTIFY_URLS=f"console:?group=30s&quiet={QUIET}#boss", **zone)
    assert (once.code, once.last) == (0, "delivered 0, waiting 5, failed 0")
    assert "quiet hours: 5 of those that wait are sent when they end" in once.stdout
    assert "заказ" not in once.stdout.lower()

    status = site.run("status", SHOP_NOTIFY_URLS=f"console:?quiet={QUIET}#boss", **zone)
    until = datetime.now(UTC).replace(hour=0, minute=0) + timedelta(days=4)
    assert f"quiet       boss: until {until:%Y-%m-%d} 00:00" in status.stdout

    sent = site.once(SHOP_NOTIFY_URLS=sink)
    assert (sent.code, sent.last) == (0, "delivered 5, waiting 0, failed 0")
    (line,) = [line for line in sent.stdout.splitlines() if "нов" in line]
    assert "5 новых заказов · 5 000 ₽" in line
    assert line.count("Новый заказ №") == 5
