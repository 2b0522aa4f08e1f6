"""Two replicas on a real Valkey: kills, freezes and restarts lose nothing, and repeats carry the same ids."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random

import pytest

from support.commands import Running, wait_until
from support.plot import Plot
from support.redis_server import RedisServer, redis_server
from support.site import Site

FAIL_OVER_S = 15.0
"""A promise: so long after a kill somebody leads again."""
LEASE_S = 10.0
SENDERS = 8  # the default


@pytest.fixture
def server(site: Site) -> Iterator[RedisServer]:
    with redis_server(site.home, keeps=True) as server:
        site.settings["SHOP_STATE_URL"] = server.url
        yield server


def leads(daemon: Running) -> bool:
    return daemon.metric("shop_lease_held") == 1


@contextmanager
def two_replicas(site: Site) -> Iterator[tuple[Running, Running]]:
    """The one that leads, and the one that follows."""
    with ExitStack() as stack:
        first = stack.enter_context(site.start("run"))
        first.wait_for("leading: the lease is ours")
        second = stack.enter_context(site.start("run"))
        second.wait_for("following: another replica has the lease")
        yield first, second


@pytest.mark.usefixtures("server")
def test_one_leads_and_the_other_is_healthy_and_knows_who(site: Site) -> None:
    order = site.shop.create_order("processing")
    with two_replicas(site) as (leader, follower):
        site.receiver.wait_for(1)
        wait_until(lambda: follower.get("/readyz").status_code == 200, "a follower that is ready")

        assert (leads(leader), leads(follower)) == (True, False)
        assert leader.get("/readyz").json() == {"status": "ready", "leader": "this one"}
        assert follower.get("/readyz").json()["leader"].endswith(f"/{leader.pid}")
        assert follower.get("/healthz").json() == {"status": "healthy"}
        assert follower.metric("shop_known_orders") == 1
        site.polled(3)
        assert follower.stop() == leader.stop() == 0
        for replica in (follower, leader):
            assert len(replica.logged("stopping; undelivered notifications wait in the outbox")) == 1
    assert site.receiver.story(order) == ["new"]
    assert len(site.receiver.posts) == 1


@pytest.mark.usefixtures("server")
def test_a_clean_stop_hands_over_at_once(site: Site) -> None:
    with two_replicas(site) as (leader, follower):
        assert leader.stop() == 0
        follower.wait_for("leading: the lease is ours", within_s=LEASE_S / 2)
        order = site.shop.create_order("processing")
        site.receiver.wait_for(1)
    assert site.receiver.story(order) == ["new"]


def test_a_kill_is_followed_by_a_fail_over_and_nothing_is_lost(site: Site, server: RedisServer) -> None:
    site.settings["SHOP_SENDERS"] = "2"
    site.receiver.answer = site.receiver.slowly(0.5)
    with two_replicas(site) as (leader, follower):
        orders = [site.shop.create_order("processing") for _ in range(20)]
        site.receiver.wait_for(2)
        leader.kill()
        killed_at = time.monotonic()
        follower.wait_for("leading: the lease is ours", within_s=FAIL_OVER_S)
        assert time.monotonic() - killed_at < FAIL_OVER_S
        site.receiver.answer = lambda _: 200
        wait_until(lambda: len({*site.receiver.event_ids}) == 20, "all of it")
        wait_until(lambda: not site.status()["sinks"], "an empty outbox")
        with server.client as client:
            assert client.hlen("shop:polling:known_orders") == 20
    assert all(site.receiver.story(order) == ["new"] for order in orders)


@pytest.mark.usefixtures("server")
def test_who_was_frozen_longer_than_the_lease_changes_and_sends_nothing(site: Site) -> None:
    with two_replicas(site) as (frozen, other):
        site.receiver.answer = site.receiver.slowly(0.5)
        orders = [site.shop.create_order("processing") for _ in range(30)]
        # Each sender waits for an answer then: one that was about to ask might do so when it wakes.
        wait_until(lambda: len(site.receiver.posts) >= SENDERS, "the first of them")
        frozen.send(signal.SIGSTOP)
        other.wait_for("leading: the lease is ours", within_s=FAIL_OVER_S)
        wait_until(lambda: len({*site.receiver.event_ids}) == 30, "the rest")
        wait_until(lambda: not site.status()["sinks"], "an empty outbox")
        begun = len(site.receiver.methods)  # counted when the head arrives: a body may be on its way still

        frozen.send(signal.SIGCONT)
        frozen.wait_for("following: another replica has the lease")
        site.polled(3)

        assert leads(other)
        assert len(site.receiver.methods) == begun  # it woke with its hands full, and sent none of it
        assert frozen.stop() == other.stop() == 0
    assert all(site.receiver.story(order) == ["new"] for order in orders)
    # What was on its way when it was frozen comes again; nothing else.
    assert len(site.receiver.posts) - 30 <= 8


def kill_test(site: Site, server: RedisServer, *, rounds: int, seed: int, say: Callable[[str], None]) -> None:
    """Two replicas; in each round something random happens to one of them, while orders continue."""
    random = Random(seed)
    plot = Plot(site, random, at_once=6)
    with ExitStack() as stack:
        replicas = [stack.enter_context(site.start("run", SHOP_SENDERS="3")) for _ in range(2)]

        def go_on(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                plot.go_on()
                time.sleep(0.002)

        for number in range(1, rounds + 1):
            which = random.randrange(2)
            action = random.choice(["kill", "freeze", "restart the server", "hang the server"])
            go_on(random.uniform(0.5, 3))
            if action == "kill":
                replicas[which].kill()
                replicas[which] = stack.enter_context(site.start("run", SHOP_SENDERS="3"))
            elif action == "freeze":
                replicas[which].send(signal.SIGSTOP)
                go_on(LEASE_S + 3)
                replicas[which].send(signal.SIGCONT)
            elif action == "restart the server":
                server.end()
                go_on(random.uniform(0, 2))
                server.start()
            else:
                server.freeze()
                go_on(random.uniform(1, LEASE_S + 5))
                server.thaw()
            posts, events = len(site.receiver.posts), len({*site.receiver.event_ids})
            say(f"{number} {action}: {plot.finished} orders done, {events} events, {posts - events} again")
        wait_until(lambda: not plot.go_on(begin_more=False), "the end of every order", within_s=120)
        wait_until(lambda: not site.status()["sinks"], "an empty outbox")
    plot.check()


def test_whatever_befalls_two_replicas_nothing_is_lost(site: Site, server: RedisServer) -> None:
    kill_test(site, server, rounds=3, seed=4, say=lambda _: None)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_befalls_them_for_long(site: Site, server: RedisServer, seed: int) -> None:
    def say(line: str) -> None:
        sys.stdout.write(f"seed {seed}: {line}\n")
        sys.stdout.flush()

    kill_test(site, server, rounds=40, seed=seed, say=say)
