"""`audit`: did it see everything? Beside the daemon, after outages, and where something really was missed."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.keys import DEMO_PASSWORD
from support.commands import COMMAND, Finished, environment, wait_until
from support.site import Site

SINCE = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")
MISSED, UNDELIVERED = 6, 4


def audit(site: Site, *args: str, **changes: str | None) -> Finished:
    return site.run("audit", "--since", SINCE, *args, **changes)


def answer(site: Site, status: int) -> None:
    site.receiver.answer = lambda _: status


def entries(site: Site, **changes: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `--json` says: the orders, and the last line."""
    *orders, last = (json.loads(line) for line in audit(site, "--json", **changes).lines)
    return orders, last


def test_everything_is_accounted_for_after_a_day_of_business(site: Site) -> None:
    shop = site.shop
    shop.create_order("completed", created=datetime.now(UTC) - timedelta(days=1))  # older than our watch
    with site.daemon():
        site.polled()
        paid, failing, waiting = shop.create_order("processing"), shop.create_order(), shop.create_order()
        site.receiver.wait_for(1)
        shop.set_status(failing, "failed")
        shop.refund(paid, 1)
        site.receiver.wait_for(3)
        shop.set_status(paid, "cancelled")
        site.receiver.wait_for(4)
        wait_until(lambda: not any(sink["waiting"] for sink in site.status()["sinks"].values()), "acks")
        done = audit(site)
    assert (done.code, done.complaints) == (0, [])
    assert done.last == "everything accounted for: 4 orders"
    (line,) = [line for line in done.lines if line.startswith(f"{paid:>8}")]
    assert line.split() == [str(paid), "cancelled", "known", "cancelled"]
    told = [line.split() for line in done.lines if line.startswith(" " * 10)]
    assert all("delivered" in words and site.receiver.url in words for words in told)
    assert sorted(words[0].rpartition(".")[2] for words in told) == [
        "cancelled", "failed", "new", "partially_refunded",
    ]  # fmt: skip
    assert not any(line.startswith(f"{waiting:>8}") and "MISSED" in line for line in done.lines)


def test_what_a_filter_leaves_out_is_not_sent_and_was_not_lost(site: Site) -> None:
    choosy = {"SHOP_NOTIFY_URLS": f"{site.receiver.url}?levels=error&shop=1&events=shop.order.*"}
    site.once(**choosy)
    paid, failing = site.shop.create_order("processing"), site.shop.create_order("failed")
    assert site.once(**choosy).last == "delivered 1, waiting 0, failed 0"
    orders, last = entries(site, **choosy)

    assert site.receiver.events == [(str(failing), "failed")]
    assert {order["order"]: list(order["announced"]) for order in orders} == {
        paid: [], failing: ["shop.order.failed"],
    }  # fmt: skip
    assert last["verdict"] == "everything accounted for: 2 orders"
    # Who widens the filter is told what the old one left out.
    orders, _ = entries(site)
    assert {order["order"]: order["standing"] for order in orders} == {paid: "lost", failing: "fine"}


def test_what_an_expression_leaves_out_is_not_sent_and_was_not_lost(site: Site) -> None:
    choosy = {"SHOP_NOTIFY_URLS": f"{site.receiver.url}?where=total<1+or+status=failed"}
    site.once(**choosy)
    paid, failing = site.shop.create_order("processing"), site.shop.create_order("failed")
    assert site.once(**choosy).last == "delivered 1, waiting 0, failed 0"
    orders, last = entries(site, **choosy)

    assert site.receiver.events == [(str(failing), "failed")]
    assert {order["order"]: order["standing"] for order in orders} == {paid: "fine", failing: "fine"}
    assert last["verdict"] == "everything accounted for: 2 orders"
    orders, _ = entries(site, SHOP_NOTIFY_URLS=f"{site.receiver.url}?where=total>1")
    assert {order["order"]: order["standing"] for order in orders} == {paid: "lost", failing: "fine"}


def test_what_is_not_delivered_is_told_and_is_4(site: Site) -> None:
    site.shop.create_order("processing")
    answer(site, 503)
    site.once()
    orders, last = entries(site)
    assert [(order["standing"], order["known_as"]) for order in orders] == [("waiting", "processing")]
    assert orders[0]["announced"]["shop.order.new"][0]["fate"] == "waiting"
    assert last["verdict"] == "not everything is accounted for: of 1 orders 1 waiting"
    assert audit(site).code == UNDELIVERED
    answer(site, 400)
    site.once()
    orders, _ = entries(site)
    assert [order["standing"] for order in orders] == ["dead"]
    assert audit(site).code == UNDELIVERED


def test_what_was_missed_is_told_and_is_6(site: Site) -> None:
    # As it is after half an hour: what a tick reads again does not reach back to it.
    tight = {"SHOP_CURSOR_OVERLAP": "1", "SHOP_CLOCK_SKEW": "0", "SHOP_SWEEP_INTERVAL": "0"}
    order_id = site.shop.create_order("processing")
    beyond = site.shop.order(order_id).modified + timedelta(seconds=2)

    def polled_beyond_it() -> bool:
        assert site.once(**tight).code == 0
        return datetime.fromisoformat(site.status()["cursor_at"]) > beyond

    wait_until(polled_beyond_it, "polling beyond it")
    site.shop.hidden_status(order_id, "cancelled")
    assert site.once(**tight).code == 0
    assert audit(site, **tight).code == MISSED
    done = audit(site, **tight)
    (line,) = [line for line in done.lines if line.startswith(f"{order_id:>8}")]
    assert line.split(maxsplit=5)[1:] == [
        "cancelled", "known", "processing", "MISSED:", "to be announced: shop.order.cancelled",
    ]  # fmt: skip
    assert done.last == "not everything is accounted for: of 1 orders 1 missed"
    # The sweep finds it. On a busy machine, an interval of a second leaves no time for the sweep.
    swept = {"SHOP_CURSOR_OVERLAP": "1", "SHOP_CLOCK_SKEW": "0", "SHOP_POLLING_INTERVAL": "60"}
    assert site.once(**swept).code == 0
    assert audit(site, **tight).last == "everything accounted for: 1 orders"
    assert [event for _, event in site.receiver.events] == ["new", "cancelled"]


def test_what_changed_a_moment_ago_is_no_fault(site: Site) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    site.shop.create_order("processing")
    done = audit(site)
    assert done.code == 0
    assert done.last.endswith("2 orders; 1 changed a moment ago, the next poll will show them")


def test_an_order_that_cannot_be_read_is_not_accounted_for(site: Site) -> None:
    order_id = site.shop.create_order("processing")
    site.shop.distort(order_id, faults.without("status"))
    assert site.once().code == 0
    done = audit(site)
    assert (done.code, done.last) == (MISSED, "not everything is accounted for: of 1 orders 1 unreadable")


def test_it_changes_nothing(site: Site) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    site.shop.create_order("processing")
    before, posts = site.files(), len(site.receiver.posts)
    audit(site)
    assert {name: site.files()[name] for name in before} == before
    assert len(site.receiver.posts) == posts


@pytest.mark.parametrize("dialect", ["rest", "abilities", "woocommerce-mcp"])
def test_in_every_dialect(site: Site, dialect: str) -> None:
    site.settings.update(
        SHOP_DIALECT=dialect,
        WORDPRESS_USERNAME=DEMO_PASSWORD.username,
        WORDPRESS_APPLICATION_PASSWORD=DEMO_PASSWORD.password,
    )
    site.shop.create_order("processing")
    assert site.once().code == 0
    assert len(site.receiver.posts) == 1
    assert audit(site).last == "everything accounted for: 1 orders"


def test_a_reader_that_has_enough_is_no_reason_for_a_traceback(site: Site) -> None:
    for _ in range(250):
        site.shop.create_order("processing")
    site.receiver.answer = lambda _: 503
    site.once()
    with site.start("audit", "--since", SINCE) as running:
        running.wait()
    pipe = subprocess.run(
        ["/bin/sh", "-c", f'"{COMMAND}" audit --since {SINCE} | head -1'],
        cwd=site.home,
        env=environment(site.home, site.environment()),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert pipe.stdout.count(b"\n") == 1
    assert b"Traceback" not in pipe.stderr
    assert b"never retrieved" not in pipe.stderr


def test_what_a_user_can_get_wrong(site: Site) -> None:
    done = audit(site)
    assert (done.code, done.stdout) == (5, "")
    assert done.complaints == [f"shop-poller: {site.state}: no state yet; `shop-poller run` makes it"]
    site.once()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    done = site.run("audit", "--since", tomorrow)
    assert done.code == 2
    assert "--since" in done.stderr
    assert "is in the future" in done.stderr
    assert site.run("audit", "--since", "yesterday").code == 2
    site.served.endpoint.keys.clear()
    done = audit(site)
    assert done.code == 3
    (complaint,) = done.complaints
    assert "401" in complaint
