"""A shop in trouble, beside the daemon: it stays up, tells the administrators once, and misses nothing."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.endpoint import PATH
from shop_poller.simulator.faults import Fault, Handler
from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.shop import SimulatedShop
from support.commands import Running, wait_until
from support.receivers import receiving, reserved_port
from support.simulated import shop_in_thread, wall_clock
from support.site import SHOP_ID, Site

BREAKER_S = 60.0
"""Five failed requests in a row, and the shop is left alone for so long: the most that a test here waits."""


@dataclass
class Mended:
    """Switches a trouble off by itself, with the request that it was to last for.

    The test thread could be late: a few ticks more would open the circuit breaker, for a minute.
    """

    after: int
    mend: Callable[[], object]

    def fault(self) -> Fault:
        def act(request: Request, onward: Handler) -> Answer:
            answer = onward(request)
            self.after -= 1
            if self.after == 0:
                self.mend()
            return answer

        return Fault("mended", act)


def alerts(site: Site) -> list[dict[str, object]]:
    """The alerts that arrived."""
    return [
        post.notification
        for post in list(site.receiver.posts)
        if post.notification["event_type"].startswith("service.")
    ]


def test_a_wrong_key_is_told_once_and_so_is_that_it_was_mended(site: Site) -> None:
    good, bad = site.served.key, ApiKey("ck_other", "cs_other", user="other")
    site.served.endpoint.keys[:] = [bad]
    mended = Mended(4, lambda: site.served.endpoint.keys.append(good))
    site.served.faults.add(mended.fault())
    order = site.shop.create_order("processing")
    with site.daemon(SHOP_DIALECT="woocommerce-mcp") as daemon:
        site.receiver.wait_for(1)
        assert daemon.get("/healthz").status_code == 200, "it is not restarted for that"
        assert daemon.get("/readyz").status_code == 503
        site.receiver.wait_for(3, within_s=BREAKER_S + 30)
        site.polled(2)
        assert daemon.metric("shop_poll_errors_total", error_type="AuthenticationError") == 4
        assert len(daemon.logged("alert raised")) == len(daemon.logged("alert cleared")) == 1
        assert len(daemon.logged("polling failed")) == 1, "edges, not repeats"
    unhealthy, recovered = alerts(site)
    assert unhealthy["event_type"] == "service.unhealthy"
    assert (unhealthy["level"], unhealthy["target_roles"]) == ("critical", ["administrator"])
    data = unhealthy["data"]
    assert isinstance(data, dict)
    assert (data["service_name"], data["error_type"]) == (SHOP_ID, "AuthenticationError")
    assert data["since"] == site.status()["started_at"], "there was no good poll yet"
    assert recovered["event_type"] == "service.recovered"
    assert (recovered["level"], recovered["target_roles"]) == ("info", ["administrator"])
    assert site.receiver.story(order) == ["new"]


def test_keys_revoked_in_flight_are_told_and_nothing_is_missed(site: Site) -> None:
    (key,) = site.served.endpoint.keys
    with site.daemon():
        before = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        wait_until(lambda: site.status()["last_poll_at"], "a good poll")
        mended = Mended(3, lambda: site.served.endpoint.keys.append(key))
        site.served.endpoint.keys.clear()
        site.served.faults.add(mended.fault())
        last_good = site.status()["last_poll_at"]
        meanwhile = site.shop.create_order("processing")
        site.shop.refund(before)
        site.receiver.wait_for(5, within_s=BREAKER_S + 30)
    unhealthy, recovered = alerts(site)
    data = unhealthy["data"]
    assert isinstance(data, dict)
    assert (data["error_type"], data["since"] >= last_good) == ("AuthenticationError", True)
    assert recovered["data"] == data, "both edges of one outage carry the same"
    assert site.receiver.story(before) == ["new", "refunded"]
    assert site.receiver.story(meanwhile) == ["new"]


def test_an_alert_is_not_repeated_after_a_restart(site: Site) -> None:
    (key,) = site.served.endpoint.keys
    site.served.endpoint.keys.clear()
    for _ in range(2):
        with site.daemon() as daemon:
            daemon.wait_for("polling failed")
            wait_until(lambda: site.receiver.taken, "the alert")
    site.served.endpoint.keys.append(key)
    with site.daemon():
        site.receiver.wait_for(2)
        site.polled(2)
    assert [alert["event_type"] for alert in alerts(site)] == ["service.unhealthy", "service.recovered"]


def test_a_shop_that_is_down_is_polled_again_and_nothing_is_missed(site: Site) -> None:
    shop, receiver = SimulatedShop(wall_clock), site.receiver
    early = shop.create_order("processing")
    with reserved_port() as port, ExitStack() as lasting:
        url = f"http://127.0.0.1:{port}{PATH}"
        daemon = lasting.enter_context(site.daemon(WOOCOMMERCE_MCP_URL=url))
        daemon.wait_for("polling failed")
        with shop_in_thread(shop=shop, port=port):
            receiver.wait_for(1, within_s=BREAKER_S + 30)
            daemon.wait_for("the shop answers again")
        wait_until(lambda: len(daemon.logged("polling failed")) == 2, "another failure")
        shop.refund(early)
        meanwhile = [shop.create_order("processing") for _ in range(3)]
        with shop_in_thread(shop=shop, port=port) as served:
            receiver.wait_for(5, within_s=BREAKER_S + 30)
            assert served.endpoint.sessions.of(served.key.user), "the session was made anew"
            wait_until(lambda: len(daemon.logged("the shop answers again")) == 2, "its recovery")
            assert daemon.stop() == 0
            assert not served.endpoint.sessions.of(served.key.user)
    assert receiver.story(early) == ["new", "refunded"]
    assert all(receiver.story(order) == ["new"] for order in meanwhile)
    assert alerts(site) == [], "it was not down for long enough to be told"
    assert len(set(receiver.event_ids)) == len(receiver.event_ids) == 5


PARADE = {
    "captcha": faults.captcha(),
    "half a body": faults.half_a_body(),
    "feature off": faults.feature_off(),
    "a PHP fatal": faults.php_fatal(),
    "a dropped connection": faults.dropped(20),
}


def add_between_ticks(site: Site, daemon: Running, fault: Fault) -> int:
    """Switch on a fault for one request while no tick runs; return how many walks there were before."""
    ticks, added = daemon.metric("shop_poll_duration_seconds_count"), 0

    def is_added() -> bool:
        nonlocal ticks, added
        walks, ended = len(site.walks), daemon.metric("shop_poll_duration_seconds_count")
        if ended == ticks:
            return False
        ticks, added = ended, walks
        site.served.faults.add(fault, times=1)
        if len(site.walks) == walks:
            return True
        site.served.faults.clear(fault.name)  # the next tick had begun
        return False

    wait_until(is_added, "a fault between two ticks")
    return added


def test_garbage_neither_ends_it_nor_moves_the_cursor(site: Site) -> None:
    with site.daemon(SHOP_SWEEP_INTERVAL="0", SHOP_DIALECT="woocommerce-mcp") as daemon:
        first = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        for number, (name, fault) in enumerate(PARADE.items(), 2):
            requested = add_between_ticks(site, daemon, fault)
            order = site.shop.create_order("processing")
            site.receiver.wait_for(number, within_s=BREAKER_S + 30)
            assert site.receiver.story(order) == ["new"], name
            assert site.served.faults.active == [], name
            walks = site.walks[requested:]
            assert len(walks) >= 2, f"{name}: the walk that failed, and the one that brought the order"
            assert walks[1]["modified_after"] <= walks[0]["modified_after"], f"{name} moved the cursor"
        assert daemon.get("/healthz").json() == {"status": "healthy"}
    assert site.receiver.story(first) == ["new"]
    assert alerts(site) == []


GARBAGE = {"captcha": faults.captcha(202), "maintenance": faults.maintenance(html=True)}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_changes_nothing(site: Site, name: str) -> None:
    order = site.shop.create_order("processing")
    assert site.once().code == 0
    before = site.status()
    site.served.faults.add(GARBAGE[name])
    site.shop.refund(order)
    done = site.once()
    assert done.code == 3
    (complaint,) = done.complaints
    assert complaint.startswith("shop-poller: the shop could not be read: ")
    after = site.status()
    assert after.pop("polls_fail")["error"]
    assert after | {"problems": before["problems"]} == before, "but for why polls fail"
    site.served.faults.clear()
    assert site.once().code == 0
    assert site.status().keys() == before.keys()
    assert site.receiver.story(order) == ["new", "refunded"]


def test_a_careless_plugin_and_a_lost_session_are_no_trouble(site: Site) -> None:
    with site.daemon() as daemon:
        site.polled()
        site.served.faults.add(faults.php_notice())
        site.served.endpoint.sessions.lose_all()
        order = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        site.polled(2)
        assert daemon.logged("polling failed") == []
        (preamble,) = (entry for entry in daemon.log if "PHP notice" in entry["event"])
        assert "careless.php" in preamble["text"]
        assert site.served.count("initialize") == 2
    assert site.receiver.story(order) == ["new"]


def test_a_page_that_repeats_for_ever_is_no_endless_loop(site: Site) -> None:
    with site.daemon(SHOP_POLLING_INTERVAL="5") as daemon:  # no tick comes between the orders and the fault
        site.polled()
        wait_until(lambda: daemon.get("/readyz").status_code == 200, "readiness")
        for _ in range(100):
            site.shop.create_order("processing")
        site.served.faults.add(faults.same_page_for_ever())
        daemon.wait_for("polling failed")
        site.receiver.wait_for(100)
        last = site.shop.create_order("processing")
        before = len(site.walks)
        site.polled(4)
        site.served.faults.clear()
        assert len(site.walks) - before <= 8, "it asks twice a tick, not for ever"
        site.receiver.wait_for(101)
    assert len(site.receiver.posts) == 101
    assert site.receiver.story(last) == ["new"]


def test_polling_can_be_turned_off(site: Site) -> None:
    """What is in the outbox is delivered all the same, and the shop is not asked a thing."""
    order = site.shop.create_order("processing")
    site.receiver.answer = site.receiver.hang
    with site.daemon() as daemon:
        wait_until(lambda: site.receiver.posts, "a notification")
        daemon.kill()
    requested = len(site.served.requests)
    site.receiver.answer = lambda _: 200
    with site.daemon(SHOP_POLLING_ENABLED="false") as daemon:
        site.receiver.wait_for(1)
        health = daemon.get("/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "healthy", "polling": "disabled"})
        assert daemon.get("/readyz").status_code == 200
        assert daemon.metric("shop_polling_enabled") == 0
        wait_until(lambda: not site.status()["sinks"], "an empty outbox")
    assert len(site.served.requests) == requested
    assert site.receiver.story(order) == ["new"]
    assert len(set(site.receiver.event_ids)) == 1


def test_a_receiver_that_says_gone_gets_nothing_more_and_the_others_are_told(site: Site) -> None:
    site.receiver.answer = lambda _: 410
    with receiving() as other, site.daemon(SHOP_NOTIFY_URLS=f"{site.receiver.url}#old {other.url}") as daemon:
        first = site.shop.create_order("processing")
        other.wait_for(2)
        second = site.shop.create_order("processing")
        other.wait_for(3)
        site.polled(2)
        assert site.receiver.story(first) == ["new"]
        assert len(site.receiver.posts) == 1
        assert daemon.metric("shop_breaker_open", peer="old") == 1
        assert site.status()["sinks"]["old"]["waiting"] == 1
    assert (str(second), "new") in other.events
    (alert,) = (post.notification for post in other.posts if post.event == "unhealthy")
    assert (alert["data"]["service_name"], alert["data"]["error_type"]) == ("old", "GoneError")
