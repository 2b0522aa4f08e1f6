"""A disk that is full for long, or again and again: it is told, nothing is lost, all goes on by itself."""

import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random, SystemRandom

import pytest

from support.commands import wait_until
from support.disks import SmallDisk, fill, small_disk
from support.plot import Plot
from support.site import SHOP_ID, Site

STOPPED_S = 300
"""A promise: after so long without a good poll /healthz says so."""


@pytest.mark.soak
def test_a_disk_that_stays_full_makes_it_unhealthy_until_there_is_space(site: Site) -> None:
    with small_disk(site.state.parent) as disk, site.daemon(before=disk.before) as daemon:
        early = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        fill(disk.ballast)
        meanwhile = [site.shop.create_order("processing") for _ in range(150)]
        failed = daemon.wait_for("polling failed")
        assert "disk is full; free some space" in failed["error"]
        wait_until(lambda: daemon.get("/healthz").status_code == 503, "unhealth", within_s=STOPPED_S + 60)
        assert daemon.get("/healthz").json() == {"status": "unhealthy", "reason": "Polling not running"}
        assert daemon.get("/livez").status_code == 200, "a restart would not help"
        assert len(daemon.logged("polling failed")) == 1

        disk.ballast.unlink()
        daemon.wait_for("the shop answers again")
        wait_until(lambda: all(site.receiver.story(order) for order in meanwhile), "all of it")
        wait_until(lambda: daemon.get("/healthz").status_code == 200, "health")
        wait_until(lambda: site.receiver.story(SHOP_ID)[-1:] == ["recovered"], "the end of the alert")
    assert site.receiver.story(SHOP_ID) == ["unhealthy", "recovered"]
    assert all(site.receiver.story(order) == ["new"] for order in [early, *meanwhile])
    assert len(site.receiver.posts) == 1 + 150 + 2


def change(disk: SmallDisk, random: Random) -> None:
    """Fill the disk up, or give it its space back."""
    if random.random() < 0.5:
        fill(disk.ballast)
    else:
        disk.ballast.unlink(missing_ok=True)


def life(site: Site, disk: SmallDisk, random: Random, plot: Plot) -> str:
    """Let a daemon live on a disk that is full now and then, until it is killed; returns what it logged."""
    site.receiver.answer = site.receiver.slowly(random.choice([0, 0.3]))
    change(disk, random)
    with site.start("run", before=disk.before) as daemon:
        if random.random() < 0.8:
            wait_until(lambda: not daemon.alive or '"started"' in daemon.stderr, "a start, or none")
        for _ in range(random.randint(1, 3)):
            change(disk, random)
            until = time.monotonic() + random.uniform(0.1, 2)
            while time.monotonic() < until:
                plot.go_on()
                time.sleep(0.003)
        if random.random() < 0.2:
            daemon.process.terminate()  # it takes its log with it, and needs space to start again
            time.sleep(0.5)
        daemon.kill()
        assert daemon.wait() in {-9, -15, 0, 5}
        return daemon.stderr


@pytest.mark.soak
def test_kills_on_a_disk_that_is_full_now_and_then(site: Site) -> None:
    seed = int(os.environ.get("SOAK_SEED") or SystemRandom().randrange(10_000))
    random, refused, told = Random(seed), 0, 0
    plot = Plot(site, random, at_once=6)
    with small_disk(site.state.parent) as disk:
        for number in range(1, 81):
            text = life(site, disk, random, plot)
            told += " is full; free some space" in text
            if text.startswith("shop-poller: "):
                refused += 1
                assert len(text.splitlines()) == 1
                assert "free some space" in text or "check the disk and its free space" in text
            if number % 10 == 0:
                posts, events = len(site.receiver.posts), len({*site.receiver.event_ids})
                sys.stdout.write(
                    f"SOAK_SEED={seed}: {number} lives, {told} told of a full disk, {refused} did not start;"
                    f" {plot.finished} orders done, {events} events, {posts - events} again\n"
                )
                sys.stdout.flush()
        assert told, "it never met a full disk: this proves nothing"
        disk.ballast.unlink(missing_ok=True)
        with site.daemon(before=disk.before) as daemon:
            wait_until(lambda: not plot.go_on(begin_more=False), "the end of every order", within_s=120)
            site.polled(2)
            assert daemon.metric("shop_outbox_deliveries", sink=site.receiver.url) == 0
        plot.check()
        copied = Path(shutil.copytree(disk.path, site.home / "copied"))
        with closing(sqlite3.connect(copied / site.state.name)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
