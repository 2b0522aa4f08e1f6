"""kill -9, whenever: nothing is lost, repeats have the same event_id, and an order's events their order."""

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from random import SystemRandom

import pytest

from support.commands import FAST, PLAIN, Running, wait_until
from support.kill_test import KillTest
from support.receivers import Post
from support.redis_server import RedisServer, redis_server
from support.site import Site


def power_cut(daemon: Running) -> None:
    """End the daemon now; it cannot do anything more."""
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.process.wait()


def assert_sound(site: Site) -> None:
    with closing(sqlite3.connect(site.state)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    ("reaction", "extra"),
    [("answers", PLAIN), ("hangs", PLAIN), ("hangs up", PLAIN), ("answers", FAST)],
    ids=["answers", "hangs", "hangs up", "answers, fast"],
)
def test_killed_between_commit_and_ack(site: Site, reaction: str, extra: dict[str, str]) -> None:
    """The receiver has it, and the daemon is dead before it reads or records the answer."""
    site.settings |= extra
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
        wait_until(lambda: site.served.requests, "the first request")
        power_cut(daemon)
    with site.daemon():
        site.receiver.wait_for(1)
    assert site.receiver.story(order) == ["new"]
    assert len(set(site.receiver.event_ids)) == 1


@pytest.fixture(params=["a file", "a server"])
def server(request: pytest.FixtureRequest, site: Site) -> Iterator[RedisServer | None]:
    """Where the state is: None stands for the file."""
    if request.param == "a file":
        yield None
        return
    with redis_server(site.home, keeps=True) as server:
        site.settings["SHOP_STATE_URL"] = server.url
        yield server


def test_killed_at_random(site: Site, server: RedisServer | None) -> None:
    KillTest(site, seed=2, server=server).run(kills=4)


@pytest.mark.soak
def test_killed_at_random_hundreds_of_times(site: Site, server: RedisServer | None) -> None:
    seed = int(os.environ.get("SOAK_SEED") or SystemRandom().randrange(10_000))
    place = "Valkey" if server else "SQLite"

    def say(line: str) -> None:
        sys.stdout.write(f"{place}, SOAK_SEED={seed}: {line}\n")
        sys.stdout.flush()

    KillTest(site, seed, server=server).run(int(os.environ.get("SOAK_KILLS") or 500), say)
    if server is None:
        assert_sound(site)
