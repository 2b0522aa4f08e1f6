"""`backfill` imports old orders silently while the daemon runs. It can resume, and spares the shop."""

import json
import os
import pty
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.simulator import faults
from support.commands import COMMAND, Finished, environment, wait_until
from support.site import Site

DAY = timedelta(days=1)
SINCE = (datetime.now(UTC) - 100 * DAY).strftime("%Y-%m-%d")


def backfill(site: Site, since: str = SINCE, **changes: str | None) -> Finished:
    return site.run("backfill", "--since", since, **changes)


def past_orders(site: Site, count: int, status: str = "cancelled") -> list[int]:
    """Orders made before we watched, one a day, that neither the first start nor a sweep looks at."""
    now = datetime.now(UTC)
    return [site.shop.create_order(status, created=now - n * DAY) for n in range(3, count + 3)]


def known(site: Site) -> set[int]:
    with closing(sqlite3.connect(f"file:{site.state}?mode=ro", uri=True)) as db:
        return {order_id for (order_id,) in db.execute("SELECT order_id FROM known_orders")}


def test_what_it_imported_is_judged_rightly_later_on(site: Site) -> None:
    old = site.shop.create_order("completed", created=datetime.now(UTC) - 40 * DAY)
    with site.daemon():
        site.polled()
        assert old not in known(site)
        done = backfill(site)
        assert (done.code, done.complaints) == (0, [])
        assert done.last == "read 1 orders, imported 1 new ones"
        assert old in known(site)
        site.shop.refund(old)
        site.receiver.wait_for(1)
    assert [event for _, event in site.receiver.events] == ["refunded"]


def test_without_it_such_an_order_is_imported_when_it_turns_up(site: Site) -> None:
    """In a shop without a list of refunds: there nothing says when it was refunded."""
    site.served.endpoint.refunds.is_there = False
    old = site.shop.create_order("completed", created=datetime.now(UTC) - 40 * DAY)
    with site.daemon():
        site.polled()
        site.shop.refund(old)
        wait_until(lambda: old in known(site), "its import")
    assert site.receiver.posts == []


def test_a_list_of_refunds_does_instead_of_it(site: Site) -> None:
    old = site.shop.create_order("completed", created=datetime.now(UTC) - 40 * DAY)
    with site.daemon(SHOP_SWEEP_INTERVAL="1"):
        site.polled()
        site.shop.refund(old)
        site.receiver.wait_for(1)
    assert site.receiver.events == [(str(old), "refunded")]


def test_it_only_adds_what_is_unknown_and_older_than_our_watch(site: Site) -> None:
    ids = past_orders(site, 30)
    assert site.once().code == 0
    young = site.shop.create_order("processing")
    outside = site.shop.create_order("cancelled", created=datetime.now(UTC) - 200 * DAY)
    before = site.status()["known_orders"]
    assert backfill(site).last == "read 30 orders, imported 30 new ones"
    assert known(site) == set(ids)
    assert {young, outside}.isdisjoint(known(site))
    assert site.status()["known_orders"] == before + 30
    assert backfill(site).last == "read 30 orders, imported 0 new ones"


def test_many_are_requested_one_page_after_the_other(site: Site) -> None:
    ids = past_orders(site, 250, "refunded")
    assert site.once().code == 0
    site.served.requests.clear()
    since = (datetime.now(UTC) - 300 * DAY).strftime("%Y-%m-%d")
    assert backfill(site, since).code == 0
    assert set(ids) <= known(site)
    pages = [listing for listing in site.served.listings if listing.get("per_page") == 100]
    assert len(pages) == 4  # the last one is empty: this dialect tells no count


def test_one_that_was_broken_off_goes_on_where_it_was(site: Site) -> None:
    past_orders(site, 250, "refunded")
    assert site.once().code == 0
    since = (datetime.now(UTC) - 300 * DAY).strftime("%Y-%m-%d")
    with site.start("backfill", "--since", since, SHOP_DIALECT="woocommerce-mcp") as running:
        wait_until(lambda: len(known(site)) >= 100 or not running.alive, "a page")
        running.kill()
    imported = len(known(site))
    site.served.requests.clear()
    assert backfill(site, since, SHOP_DIALECT="woocommerce-mcp").code == 0
    assert len(known(site)) >= 250
    if imported < 250:  # it was quick enough to be killed in between
        first = next(listing for listing in site.served.listings if listing.get("per_page") == 100)
        newest = datetime.now(UTC) - (imported - 103) * DAY
        assert datetime.fromisoformat(first["before"]).replace(tzinfo=UTC) < newest


def test_a_shop_that_has_had_enough_is_waited_for(site: Site) -> None:
    past_orders(site, 3)
    assert site.once().code == 0
    site.served.faults.add(faults.rate_limited(retry_after=1), times=2)
    assert backfill(site).last == "read 3 orders, imported 3 new ones"


def test_revoked_keys_are_told_at_once(site: Site) -> None:
    past_orders(site, 3)
    assert site.once().code == 0
    site.served.endpoint.keys.clear()
    done = backfill(site)
    assert done.code == 3
    (complaint,) = done.complaints
    assert "401" in complaint


def test_before_the_first_poll_there_is_nothing_to_fill(site: Site) -> None:
    done = backfill(site)
    assert (done.code, done.stdout) == (5, "")
    assert done.complaints == [f"shop-poller: {site.state}: no state yet; `shop-poller run` makes it"]
    with site.start("run", SHOP_POLLING_ENABLED="false") as running:
        running.wait_for("started")
        done = backfill(site)
    assert done.code == 5
    assert done.complaints == [
        "shop-poller: nothing was polled with this state yet; start `shop-poller run` first"
    ]


def test_an_old_order_that_is_paid_on_our_watch_is_told_all_the_same(site: Site) -> None:
    old = site.shop.create_order("failed", created=datetime.now(UTC) - 40 * DAY)
    assert site.once().code == 0
    site.shop.set_status(old, "processing")
    assert backfill(site).code == 0
    assert old not in known(site)
    assert site.once().code == 0
    assert site.receiver.events == [(str(old), "new")]


def test_what_was_made_on_our_watch_is_known_anyway(site: Site) -> None:
    assert site.once().code == 0
    done = backfill(site, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    assert done.code == 3
    (complaint,) = done.complaints
    assert complaint.startswith("shop-poller: watching began at ")
    assert complaint.endswith("; orders created since then are known already")


@pytest.mark.parametrize("when", ["tomorrow", "2999-01-01", "0001-01-01"])
def test_a_date_that_is_none(site: Site, when: str) -> None:
    done = backfill(site, when)
    assert done.code == 2
    assert "--since" in done.stderr


def test_on_a_terminal_it_shows_how_far_it_is(site: Site) -> None:
    past_orders(site, 150, "refunded")
    assert site.once().code == 0
    terminal, ours = pty.openpty()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        os.dup2(ours, 2)
        os.chdir(site.home)
        env = environment(site.home, site.environment(TERM="xterm", COLUMNS="120"))
        os.execve(COMMAND, [str(COMMAND), "backfill", "--since", SINCE], env)  # noqa: S606 - our own command
    os.close(ours)
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # the terminal has nobody on the other side any more
        pass
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    text = shown.decode()
    assert "backfill" in text
    assert "100%" in text
    assert "orders, " in text
    assert "/s" in text


def test_as_status_says(site: Site) -> None:
    past_orders(site, 2)
    site.once()
    backfill(site)
    assert json.loads(site.run("status", "--json").stdout)["known_orders"] >= 2
