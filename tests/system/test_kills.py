"""kill -9, whenever: nothing is lost, repeats have the same event_id, and an order's events their order."""

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from random import Random

import pytest

from support.commands import Running, wait_until
from support.plot import Plot
from support.receivers import Post
from support.site import Site


def power_cut(daemon: Running) -> None:
    """End the daemon now; it has no chance to do anything more."""
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.process.wait()


def assert_sound(site: Site) -> None:
    with closing(sqlite3.connect(site.state)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("reaction", ["answers", "hangs", "hangs up"])
def test_killed_between_commit_and_ack(site: Site, reaction: str) -> None:
    """The receiver has it, and the daemon is dead before it hears or can note down the answer."""
    orders = [site.shop.create_order("processing") for _ in range(12)]
    for order in orders:
        site.shop.refund(order, 1)
    with site.daemon(SHOP_SENDERS="2") as daemon:
        victim = daemon

        def kills(_: Post) -> int | None:
            if len(site.receiver.posts) < 9:
                return 200
            power_cut(victim)
            return 200 if reaction == "answers" else None

        site.receiver.answer = site.receiver.hang if reaction == "hangs" else kills
        wait_until(lambda: site.receiver.posts and (reaction == "hangs" or not daemon.alive), "the kill")
        daemon.kill()
    assert 1 <= len(site.receiver.posts) < 24
    assert_sound(site)

    site.receiver.answer = lambda _: 200
    with site.daemon():
        wait_until(lambda: len(set(site.receiver.event_ids)) == 24, "everything")
        wait_until(lambda: not site.status()["sinks"], "an empty outbox")
        site.polled(2)
    assert all(site.receiver.story(order) == ["new", "partially_refunded"] for order in orders)
    repeats = len(site.receiver.posts) - 24
    assert 1 <= repeats <= 9, "what was in hand comes again, and what was not yet noted down"


def test_killed_before_the_first_commit(site: Site) -> None:
    order = site.shop.create_order("processing")
    with site.start("run") as daemon:
        wait_until(lambda: site.served.seen, "the first request")
        power_cut(daemon)
    with site.daemon():
        site.receiver.wait_for(1)
    assert site.receiver.story(order) == ["new"]
    assert len(set(site.receiver.event_ids)) == 1


def ordeal(site: Site, *, rounds: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Plot:
    """Kill a daemon again and again, at times and in moments that chance chooses, while orders go on."""
    chance = Random(seed)
    plot = Plot(site, chance, at_once=6)
    for number in range(1, rounds + 1):
        plot.go_on()
        with site.start("run", SHOP_SENDERS="3") as daemon:
            victim, countdown = daemon, chance.choice([1, 2, 3, 5, 8])

            def answer(_: Post, victim: Running = victim, left: list[int] = [countdown]) -> int | None:  # noqa: B006 - its own in each round
                left[0] -= 1
                if left[0] == 0:
                    power_cut(victim)
                return 200

            by_the_receiver = chance.random() < 0.5
            site.receiver.answer = answer if by_the_receiver else lambda _: 200
            until = time.monotonic() + (5.0 if by_the_receiver else chance.uniform(0.2, 1.6))
            while daemon.alive and time.monotonic() < until:
                plot.go_on()
                time.sleep(0.002)
            daemon.kill()
        assert_sound(site)
        if number % 10 == 0:
            posts, events = len(site.receiver.posts), len(set(site.receiver.event_ids))
            say(f"{number} kills, {plot.finished} orders done, {events} events, {posts - events} again")
    site.receiver.answer = lambda _: 200
    with site.daemon() as daemon:
        wait_until(lambda: not plot.go_on(begin_more=False), "the end of every order", within_s=120)
        site.polled(2)
        assert daemon.metric("shop_outbox_deliveries", sink=site.receiver.url) == 0
    plot.check()
    return plot


def test_killed_at_random(site: Site) -> None:
    plot = ordeal(site, rounds=6, seed=2)
    assert plot.finished >= 6


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_random_hundreds_of_times(site: Site, seed: int) -> None:
    def say(line: str) -> None:
        sys.stdout.write(f"seed {seed}: {line}\n")
        sys.stdout.flush()

    plot = ordeal(site, rounds=150, seed=seed, say=say)
    assert plot.finished >= 150
