"""The real daemon in every dialect, through a night in which its shop is upgraded, and with a sweep."""

from datetime import timedelta

import pytest

from shop_poller.simulator.keys import DEMO_PASSWORD
from shop_poller.simulator.refunds import ROUTE as REFUNDS
from support.commands import wait_until
from support.simulated import ServedRequest
from support.site import SHOP_ID, Site

PASSWORD = {
    "WORDPRESS_USERNAME": DEMO_PASSWORD.username,
    "WORDPRESS_APPLICATION_PASSWORD": DEMO_PASSWORD.password,
}
NO_KEYS: dict[str, str | None] = {"WOOCOMMERCE_CONSUMER_KEY": None, "WOOCOMMERCE_CONSUMER_SECRET": None}


def refund_lists(site: Site) -> list[ServedRequest]:
    """The requests for the shop's list of refunds."""
    return [request for request in site.served.requests if request.request.path.endswith(REFUNDS)]


@pytest.mark.parametrize("dialect", ["woocommerce-mcp", "abilities", "rest", "execute"])
def test_an_orders_life_is_told_in_every_dialect(site: Site, dialect: str) -> None:
    site.served.endpoint.offers = {dialect}
    with site.daemon(SHOP_DIALECT=dialect, **PASSWORD):
        site.polled()
        order = site.shop.create_order()
        site.polled(2)
        for number, status in enumerate(["failed", "processing", "cancelled", "refunded"], 1):
            site.shop.set_status(order, status)
            site.receiver.wait_for(number)
        # The list of refunds belongs to no dialect: the first sweep asks for it once, with the consumer key.
        # A tick that leaves no time puts the sweep off.
        of_refunds = 0 if dialect == "abilities" else 1
        wait_until(lambda: len(refund_lists(site)) >= of_refunds, "the list of refunds")
    assert site.receiver.story(order) == ["failed", "new", "cancelled", "refunded"]
    assert len(refund_lists(site)) == of_refunds
    others = [request for request in site.served.requests if not request.request.path.endswith(REFUNDS)]
    assert {request.dialect for request in others} == {dialect}


def test_a_shop_that_is_upgraded_overnight_keeps_working_and_nothing_is_told_twice(site: Site) -> None:
    endpoint = site.served.endpoint
    with site.daemon(**PASSWORD) as daemon:
        assert daemon.wait_for("dialect chosen")["dialect"] == "woocommerce-mcp"
        orders = [site.shop.create_order("processing")]
        site.receiver.wait_for(1)
        for left in ({"rest", "abilities"}, {"abilities"}):
            endpoint.offers = left
            orders.append(site.shop.create_order("processing"))
            site.receiver.wait_for(len(orders))
        endpoint.offers = {"woocommerce-mcp"}
        orders.append(site.shop.create_order("processing"))
        site.receiver.wait_for(len(orders))
        site.polled(2)
        chosen = [entry["dialect"] for entry in daemon.logged("dialect chosen")]
        assert daemon.logged("polling failed") == []
    assert chosen == ["woocommerce-mcp", "rest", "abilities", "woocommerce-mcp"]
    assert [source_id for source_id, _ in site.receiver.events] == [str(order) for order in orders]
    assert [post.notification["data"]["status"] for post in site.receiver.posts] == ["processing"] * 4
    ids = {post.notification["event_id"] for post in site.receiver.posts}
    assert len(ids) == 4
    assert SHOP_ID in str(site.status()["shop"])


def test_an_application_password_alone_will_do(site: Site) -> None:
    site.settings.update(NO_KEYS)
    with site.daemon(**PASSWORD) as daemon:
        assert daemon.wait_for("dialect chosen")["dialect"] == "abilities"
        order = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        log = str(daemon.log)
    assert site.receiver.story(order) == ["new"]
    assert DEMO_PASSWORD.password not in log
    assert DEMO_PASSWORD.password.replace(" ", "") not in log


@pytest.mark.parametrize("dialect", ["woocommerce-mcp", "abilities", "rest"])
def test_a_hidden_change_is_found_by_the_sweep_and_counted(site: Site, dialect: str) -> None:
    tight = {"SHOP_CURSOR_OVERLAP": "1", "SHOP_CLOCK_SKEW": "0", "SHOP_SWEEP_INTERVAL": "2"}
    order = site.shop.create_order("processing")
    beyond = site.shop.order(order).modified + timedelta(seconds=3)
    with site.daemon(SHOP_DIALECT=dialect, **PASSWORD, **tight) as daemon:
        site.receiver.wait_for(1)
        wait_until(lambda: (site.status()["cursor_at"] or "") > beyond.isoformat()[:19], "polling beyond it")
        site.shop.hidden_status(order, "cancelled")
        site.receiver.wait_for(2)
        wait_until(lambda: daemon.metric("shop_sweep_found_total") == 1, "being counted")
        (found,) = daemon.logged("the sweep found what polling could not see")
    assert (found["order"], found["status"]) == (order, "cancelled")
    assert site.receiver.story(order) == ["new", "cancelled"]


def test_without_a_sweep_auto_leaves_abilities_alone(site: Site) -> None:
    site.served.endpoint.offers = {"abilities"}
    done = site.run("check", SHOP_SWEEP_INTERVAL="0", **PASSWORD)
    assert done.code == 3
    assert "FAIL  dialect: the shop answered 404" in done.stdout
    assert "ok    dialect: abilities" in site.run("check", **PASSWORD).stdout


@pytest.mark.parametrize("dialect", ["auto", "woocommerce-mcp", "rest"])
def test_a_refund_that_moves_no_date_is_told_by_the_real_command_after_a_restart_too(
    site: Site, dialect: str
) -> None:
    site.settings.update(SHOP_DIALECT=dialect)
    orders = [
        site.shop.create_order("completed", created=site.shop.clock() - timedelta(days=200)) for _ in range(2)
    ]
    site.served.endpoint.refunds.is_there = False  # WooCommerce is too old
    assert site.once().code == 0
    site.shop.refund(orders[0], "1.00", touch=False)
    site.shop.refund(orders[1], touch=False)
    assert site.once(SHOP_SWEEP_INTERVAL="1").code == 0
    assert site.receiver.posts == []
    site.served.endpoint.refunds.is_there = True
    with site.daemon(SHOP_SWEEP_INTERVAL="1"):
        site.receiver.wait_for(2)
    with site.daemon(SHOP_SWEEP_INTERVAL="1"):
        site.polled(2)
    assert [site.receiver.story(order) for order in orders] == [["partially_refunded"], ["refunded"]]
