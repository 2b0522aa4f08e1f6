"""State in a real Valkey: the switch-over from the old design, an emptied server, commands beside it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from support.commands import wait_until
from support.redis_server import RedisServer, redis_server
from support.site import SHOP_ID, Site

KNOWN, LAST = "shop:polling:known_orders", "shop:polling:last_poll_time"


@pytest.fixture
def server(site: Site) -> Iterator[RedisServer]:
    with redis_server(site.home) as server:
        site.settings["SHOP_STATE_URL"] = server.url
        yield server


def ago(**amount: float) -> datetime:
    return (datetime.now(UTC) - timedelta(**amount)).replace(microsecond=0)


def test_the_old_designs_keys_are_taken_over_in_silence(site: Site, server: RedisServer) -> None:
    shop = site.shop
    site.served.endpoint.refunds.is_there = False  # else the sweep would tell of the forgotten order's refund
    old = {s: shop.create_order(s, created=ago(days=3)) for s in ("processing", "completed")}
    unpaid = shop.create_order("pending", created=ago(minutes=90))
    forgotten = shop.create_order("processing", created=ago(days=20))  # dropped by its EXPIRE
    with server.client as client:
        client.set(LAST, ago(minutes=10).replace(tzinfo=None).isoformat())
        client.hset(KNOWN, mapping={str(old[status]): status for status in old} | {str(unpaid): "pending"})
        client.expire(KNOWN, 3600)
    # Nobody polled for ten minutes; meanwhile:
    shop.set_status(old["processing"], "cancelled")
    shop.set_status(unpaid, "processing")
    shop.refund(forgotten)
    missed = shop.create_order("processing", created=ago(minutes=5))

    rehearsed = site.run("run", "--once", "--dry-run")
    done = site.once()

    expected = {
        (str(old["processing"]), "cancelled"), (str(unpaid), "new"), (str(missed), "new"),
    }  # fmt: skip
    assert done.code == rehearsed.code == 0
    assert set(site.receiver.events) == expected
    assert len(site.receiver.posts) == len(expected)
    told = [json.loads(line.partition(": ")[2]) for line in rehearsed.lines if line.startswith("would send")]
    assert {said["event_id"] for said in told} == {*site.receiver.event_ids}
    with server.client as client:
        assert client.ttl(KNOWN) == -1
        statuses = client.hgetall(KNOWN)
        assert statuses[str(unpaid)] == "processing"
        assert abs(datetime.fromisoformat(str(client.get(LAST))) - datetime.now(UTC).replace(tzinfo=None)) < (
            timedelta(minutes=1)
        )
    assert site.once().lines[-1] == "delivered 0, waiting 0, failed 0"

    # And what the old design would read, if it came back, is all that it ever wrote.
    shop.set_status(missed, "refunded")
    with server.client as client:
        client.hset(KNOWN, str(missed), "refunded")  # it announced that
    assert site.once().lines[-1] == "delivered 0, waiting 0, failed 0"


def test_a_server_emptied_under_a_running_daemon_costs_nothing_young_and_stirs_nothing_old(
    site: Site, server: RedisServer
) -> None:
    shop = site.shop
    old = [shop.create_order("processing", created=ago(days=days)) for days in range(2, 40)]
    with site.daemon() as daemon:
        young = [shop.create_order("processing") for _ in range(3)]
        site.receiver.wait_for(3)
        first = {*site.receiver.event_ids}
        server.end()
        daemon.wait_for("polling failed")
        meanwhile = shop.create_order("processing")
        shop.set_status(old[0], "cancelled")
        server.start()
        wait_until(lambda: site.receiver.story(meanwhile), "what happened meanwhile")
        site.polled(3)
        assert daemon.stop() == 0
        assert len(daemon.logged("the lease was lost; stopping the work that it covers")) <= 1
    assert {order for order, _ in site.receiver.events} == {str(order) for order in [*young, meanwhile]}
    assert {*site.receiver.event_ids} >= first
    assert len({*site.receiver.event_ids}) == 4  # repeats carry the same ids


def test_trouble_is_logged_when_it_begins_and_when_it_ends(site: Site, server: RedisServer) -> None:
    with site.daemon() as daemon:
        site.polled(2)
        server.end()
        daemon.wait_for("polling failed")
        daemon.wait_for("the lease expired; stopping the work that it covers")
        daemon.wait_for("the lease cannot be requested; retrying")
        server.start()
        wait_until(lambda: len(daemon.logged("leading: the lease is ours")) == 2, "leading again")
        order = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        for said in ("the lease cannot be requested; retrying", "the lease cannot be renewed; retrying"):
            assert len(daemon.logged(said)) == 1
        warnings = [entry for entry in daemon.log if entry["level"] in {"warning", "error"}]
        assert len(warnings) <= 8
        # The order was announced with the first page of a walk, which has not ended yet.
        wait_until(lambda: daemon.get("/readyz").status_code == 200, "the end of the walk")
    assert site.receiver.story(order) == ["new"]


def test_commands_read_it_while_the_daemon_runs(site: Site, server: RedisServer) -> None:
    site.shop.create_order("processing")
    with site.daemon() as daemon:
        site.receiver.wait_for(1)
        wait_until(lambda: site.status()["last_poll_at"], "a poll")
        found = site.status()
        assert (found["shop"], found["known_orders"]) == (SHOP_ID, 1)
        second = site.once()
        assert second.code == 5
        assert len(second.complaints) == 1
        assert f"/{daemon.pid} has the lease" in second.complaints[0]
        rehearsed = site.run("run", "--once", "--dry-run")
        assert (rehearsed.code, rehearsed.lines) == (
            0,
            ["read 1 orders, imported 0, found 0 events; changed nothing"],
        )
        checked = site.run("check")
        assert checked.code == 0
        assert f"{server.url} answers" in checked.stdout


def test_the_keys_of_another_shop_are_refused_in_one_line(site: Site, server: RedisServer) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    for args in (["run"], ["run", "--once"], ["run", "--once", "--dry-run"], ["status"]):
        done = site.run(*args, SHOP_ID="another.example")
        assert done.code == 5, args
        (line,) = done.complaints
        assert f"belong to the shop {SHOP_ID}" in line
    with server.client as client:
        assert client.hlen(KNOWN) == 1


def test_a_server_that_is_not_there_is_named_in_one_line(site: Site, server: RedisServer) -> None:
    server.end()
    for args in (["run", "--once"], ["status"], ["run", "--once", "--dry-run"]):
        done = site.run(*args)
        assert done.code == 5
        (line,) = done.complaints
        assert line.startswith(f"shop-poller: state in {server.url}: ")
    checked = site.run("check")
    assert checked.code == 5
    assert f"FAIL  state: state in {server.url}: " in checked.stdout


def test_audit_and_backfill_while_a_daemon_runs(site: Site, server: RedisServer) -> None:
    old = site.shop.create_order("completed", created=ago(days=40))
    since = ago(days=60).strftime("%Y-%m-%d")
    with site.daemon():
        site.polled()
        young = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        done = site.run("backfill", "--since", since)
        assert (done.code, done.last) == (0, "read 1 orders, imported 1 new ones")
        with server.client as client:
            assert client.hgetall(KNOWN) == {str(old): "completed", str(young): "processing"}
            assert client.zrange("shop:polling:known_open", 0, -1) == [f"{young:019d}"]
        site.shop.refund(old)
        site.receiver.wait_for(2)
        wait_until(lambda: not site.status()["sinks"], "everything being acknowledged")
        done = site.run("audit", "--since", since)
    assert (done.code, done.last) == (0, "everything accounted for: 2 orders")
    assert site.receiver.events == [(str(young), "new"), (str(old), "refunded")]


def test_a_state_from_before_the_sweep_is_swept_too(site: Site, server: RedisServer) -> None:
    order = site.shop.create_order("processing", created=ago(minutes=30))
    assert site.once().code == 0
    with server.client as client:
        client.delete("shop:polling:known_open")
        client.hdel("shop:polling:state", "swept_at", "sweep")
    assert site.once(SHOP_SWEEP_WINDOW="0.01").code == 0
    with server.client as client:
        assert client.zrange("shop:polling:known_open", 0, -1) == [f"{order:019d}"]
    assert any(listing.get("include") == [order] for listing in site.served.listings)
