"""SQLite's log (-wal) torn after a kill, as no honest disk tears it: what is gone is told again, same ids.

The log is where commits are until they are carried over into the file. Without its end the state is that of
a moment ago: then nothing may be missing either, and whatever is told again has to be known by its event id.
"""

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random, SystemRandom

import pytest

from support.commands import Running, wait_until
from support.plot import Plot
from support.site import Site

FRAME = 24 + 4096
"""Bytes of a page in the log, and of what precedes it."""


def log_of(state: Path) -> Path:
    return Path(f"{state}-wal")


def last_frame_cut(log: Path, random: Random) -> None:
    os.truncate(log, max(log.stat().st_size - random.randint(1, FRAME), 0))


def cut_anywhere(log: Path, random: Random) -> None:
    os.truncate(log, random.randint(0, log.stat().st_size))


def junk_at_its_end(log: Path, random: Random) -> None:
    junk = random.randbytes(random.randint(1, 300))
    with log.open("r+b") as file:
        file.seek(-min(len(junk), log.stat().st_size), os.SEEK_END)
        file.write(junk)


def junk_behind_its_end(log: Path, random: Random) -> None:
    with log.open("ab") as file:
        file.write(random.randbytes(random.randint(1, 2 * FRAME)))


def zeros_in_its_midst(log: Path, random: Random) -> None:
    with log.open("r+b") as file:
        file.seek(random.randrange(max(log.stat().st_size - FRAME, 1)))
        file.write(bytes(FRAME))


def gone(log: Path, _: Random) -> None:
    log.unlink()


TEARS = [last_frame_cut, cut_anywhere, junk_at_its_end, junk_behind_its_end, zeros_in_its_midst, gone]


def assert_sound(state: Path) -> None:
    with closing(sqlite3.connect(state)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def left_behind(site: Site) -> list[int]:
    """Kill a daemon that has told nine new orders and four refunds; of the first order the file knows.

    Returns:
        The other orders; the first four of them are those with refunds.
    """
    site.shop.create_order("processing")
    assert site.once().code == 0  # it ends well, so that this much is in the file itself
    orders = [site.shop.create_order("processing") for _ in range(8)]
    with site.daemon() as daemon:
        site.receiver.wait_for(9)
        for order in orders[:4]:
            site.shop.refund(order, 1)
        site.receiver.wait_for(13)
        daemon.kill()
    return orders


def test_what_was_told_since_the_state_of_before_is_told_again_with_the_same_ids(site: Site) -> None:
    orders = left_behind(site)
    told = site.receiver.event_ids
    site.shop.set_status(orders[0], "cancelled")  # and now that comes first
    log_of(site.state).unlink()

    with site.daemon():
        wait_until(lambda: len(site.receiver.posts) >= len(told) + 11, "all of it again")
        site.polled(2)
    assert_sound(site.state)
    again = site.receiver.event_ids[len(told) :]
    assert len(again) == len(set(again)) == 11, "seven new orders, three refunds, and what happened since"
    assert told[0] not in again, "what the file has is known"
    assert len(set(again) - set(told)) == 1
    assert site.receiver.first_story(orders[0]) == ["new", "partially_refunded", "cancelled"]
    assert all(site.receiver.first_story(order) == ["new", "partially_refunded"] for order in orders[1:4])
    assert all(site.receiver.first_story(order) == ["new"] for order in orders[4:])


def test_however_it_is_torn_it_goes_on_from_what_is_whole(site: Site) -> None:
    left_behind(site)
    told = {*site.receiver.event_ids}
    with ExitStack() as stack:
        runs: dict[Path, Running] = {}
        for tear in (last_frame_cut, junk_at_its_end, zeros_in_its_midst):
            state = site.home / tear.__name__ / site.state.name
            shutil.copytree(site.state.parent, state.parent)
            tear(log_of(state), Random(1))
            url = f"sqlite:///{state}"
            runs[state] = stack.enter_context(site.start("run", "--once", SHOP_STATE_URL=url))
        assert [run.wait() for run in runs.values()] == [0, 0, 0]
        assert all(not run.logged("polling failed") for run in runs.values())
    for state in runs:
        assert_sound(state)
        with closing(sqlite3.connect(state)) as db:
            assert db.execute("SELECT count(*) FROM known_orders").fetchone() == (9,)
    assert {*site.receiver.event_ids} == told


def test_a_file_that_is_damaged_itself_is_5_in_one_line(site: Site) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    with site.state.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * (site.state.stat().st_size - 4096))
    done = site.run("run")
    assert (done.code, done.stdout) == (5, "")
    (complaint,) = done.stderr.splitlines()
    assert complaint.startswith(f"shop-poller: state file {site.state}: ")
    assert complaint.endswith(
        "the file is damaged: `shop-poller state check` says where; restore a backup, or move the file away"
        " to start over"
    )
    assert len(site.receiver.posts) == 1


def kill_test(site: Site, *, rounds: int, seed: int, say: Callable[[str], None] = lambda _: None) -> None:
    """Kill a daemon again and again and tear its log, while orders go on."""
    random = Random(seed)
    assert site.once().code == 0
    plot = Plot(site, random, at_once=6, set_back=True)
    for number in range(1, rounds + 1):
        with site.start("run") as daemon:
            daemon.wait_for("started")
            enough = len({*site.receiver.event_ids}) + random.randint(1, 8)  # what comes again does not count
            until = time.monotonic() + 10
            while len({*site.receiver.event_ids}) < enough and time.monotonic() < until:
                plot.go_on()
                time.sleep(0.01)
            if random.random() < 0.2:
                assert daemon.stop() == 0  # what it knows is in the file then, and stays
                continue
            daemon.kill()
            assert daemon.logged("polling failed") == []
        tear = TEARS[number % len(TEARS)]
        tear(log_of(site.state), random)
        if random.random() < 0.5:
            Path(f"{site.state}-shm").unlink(missing_ok=True)  # an index of the log, made anew without it
        events = len({*site.receiver.event_ids})
        again = len(site.receiver.posts) - events
        say(f"{number} {tear.__name__}: {plot.finished} orders done, {events} events, {again} again")
    with site.daemon() as daemon:
        wait_until(lambda: not plot.go_on(begin_more=False), "the end of every order", within_s=120)
        site.polled(2)
        assert daemon.metric("shop_outbox_deliveries", sink=site.receiver.url) == 0
    assert_sound(site.state)
    plot.check()


@pytest.mark.soak
def test_torn_at_random_by_the_hundred(site: Site) -> None:
    seed = int(os.environ.get("SOAK_SEED") or SystemRandom().randrange(10_000))

    def say(line: str) -> None:
        sys.stdout.write(f"SOAK_SEED={seed}: {line}\n")
        sys.stdout.flush()

    kill_test(site, rounds=100, seed=seed, say=say)
