"""The daemon with the extra `fast`: a life of it. All other system tests are of the default install."""

import signal
from pathlib import Path

import pytest

from support.commands import FAST, PLAIN, Running, wait_until
from support.receivers import Systemd
from support.site import Site


def loaded(daemon: Running) -> set[str]:
    """Which of the extra's packages are in the daemon's memory."""
    maps = Path(f"/proc/{daemon.pid}/maps").read_text(encoding="utf-8")
    return {name for name in ("aiohttp", "uvloop") if f"/{name}/" in maps}


def test_the_default_install_has_nothing_of_it(site: Site) -> None:
    site.settings |= PLAIN
    with site.daemon() as daemon:
        site.polled()
        assert daemon.wait_for("started")["fast"] is False
        assert loaded(daemon) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_life_from_its_start_to_a_signal(site: Site, number: signal.Signals) -> None:
    site.settings |= FAST
    systemd = Systemd(str(site.home / "notify"))
    try:
        with site.daemon(NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="200000") as daemon:
            assert daemon.wait_for("started")["fast"] is True
            order = site.shop.create_order("processing")
            site.receiver.wait_for(1)
            site.shop.refund(order)
            site.receiver.wait_for(2)
            assert loaded(daemon) == {"aiohttp", "uvloop"}
            assert daemon.get("/healthz").json() == {"status": "healthy"}
            assert daemon.metric("shop_known_orders") == 1
            wait_until(lambda: systemd.states.count("WATCHDOG=1") >= 3, "the watchdog's food")
            assert daemon.stop(number) == 0
            wait_until(lambda: "STOPPING=1" in systemd.states, "its farewell")
        assert systemd.states.count("READY=1") == 1
    finally:
        systemd.close()
    assert daemon.log[-1]["event"] == "stopped"
    assert "Unclosed" not in daemon.stderr
    assert site.receiver.story(order) == ["new", "refunded"]
    assert len(site.receiver.event_ids) == 2
    assert site.served.count("initialize") == 1, "one session is kept"
    assert site.served.endpoint.sessions.of(site.served.key.user) == []
    assert {path.name for path in site.state.parent.iterdir()} == {"shop-poller.db", "shop-poller.db.lock"}


def test_a_second_signal_ends_it_at_once(site: Site) -> None:
    site.settings |= FAST
    site.shop.create_order("processing")
    site.receiver.answer = site.receiver.hang
    with site.daemon() as daemon:
        wait_until(lambda: site.receiver.posts, "a notification")
        daemon.send(signal.SIGTERM)
        daemon.wait_for("stopping; undelivered notifications wait in the outbox")
        assert daemon.stop(signal.SIGTERM) == -signal.SIGTERM
    assert site.status()["sinks"][site.receiver.url]["waiting"] == 1
