"""A disk that is full, or that may not be written to: a clear line, and nothing lost."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import Running, wait_until
from support.disks import SMALL, fill, mounted, small_disk
from support.site import Site


def run_mounted(site: Site, script: str, *args: str) -> tuple[int, str, str]:
    """Run a command to its end, that sees the directory of the state as the script has mounted it."""
    with site.start(*args, before=mounted(script, site.state.parent)) as running:
        code = running.wait()
        return code, running.stdout, running.stderr


@contextmanager
def on_a_small_disk(site: Site) -> Iterator[tuple[Running, Path]]:
    """A daemon whose state is alone on a small disk, and a file to fill that up with."""
    with small_disk(site.state.parent) as disk, site.daemon(before=disk.before) as daemon:
        yield daemon, disk.ballast


def empties(site: Site, daemon: Running) -> None:
    """Wait until all is delivered and noted down."""
    wait_until(
        lambda: daemon.metric("shop_outbox_deliveries", sink=site.receiver.url) == 0, "an empty outbox"
    )


def test_a_disk_that_fills_up_is_told_once_and_nothing_is_lost(site: Site) -> None:
    with on_a_small_disk(site) as (daemon, ballast):
        early = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        site.polled(2)
        fill(ballast)
        meanwhile = [site.shop.create_order("processing") for _ in range(150)]
        failed = daemon.wait_for("polling failed")
        site.polled(3)
        assert failed["error_type"] == "StoreError"
        assert failed["error"].startswith(
            f"state file {site.state}: database or disk is full; free some space"
        )
        assert len(daemon.logged("polling failed")) == 1, "an edge, not a repeat"
        assert daemon.get("/healthz").status_code == 200
        assert daemon.metric("shop_poll_errors_total", error_type="StoreError") >= 2
        assert len(site.receiver.posts) == 1

        ballast.unlink()
        daemon.wait_for("the shop answers again")
        site.receiver.wait_for(151)
        empties(site, daemon)
    assert all(site.receiver.story(order) == ["new"] for order in [early, *meanwhile])
    assert len(site.receiver.posts) == 151


def test_acks_that_cannot_be_written_down_are_kept_in_mind(site: Site) -> None:
    """The disk fills up between the commit and the acks."""
    with on_a_small_disk(site) as (daemon, ballast):
        site.polled(2)
        site.receiver.answer = site.receiver.slowly(1.0)
        orders = [site.shop.create_order("processing") for _ in range(4)]
        wait_until(lambda: site.receiver.posts, "a notification")
        fill(ballast)
        told = daemon.wait_for("deliveries cannot be recorded; retrying")
        assert "disk is full" in told["error"]
        site.polled(2)
        assert len(daemon.logged("deliveries cannot be recorded; retrying")) == 1
        ballast.unlink()
        empties(site, daemon)
    assert sorted(site.receiver.events) == [(str(order), "new") for order in orders], "no repeats"


def test_a_disk_that_is_full_at_the_start_is_5(site: Site) -> None:
    script = f"mount -t tmpfs -o {SMALL} none $D; dd if=/dev/zero of=$D/ballast bs=4k 2>&- || :"
    code, stdout, stderr = run_mounted(site, script, "run")
    assert (code, stdout) == (5, "")
    (complaint,) = stderr.splitlines()
    assert complaint.startswith(f"shop-poller: state file {site.state}: ")
    assert "full" in complaint or "No space left" in complaint
    assert "free some space" in complaint
    assert site.served.requests == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_is_mounted_read_only_is_5(site: Site, *, existing: bool) -> None:
    if existing:
        assert site.once().code == 0
    requested = len(site.served.requests)
    script = "mount --bind $D $D; mount -o remount,bind,ro $D"
    for args in (["run"], ["run", "--once"]):
        code, stdout, stderr = run_mounted(site, script, *args)
        assert (code, stdout) == (5, "")
        (complaint,) = stderr.splitlines()
        assert complaint.startswith(f"shop-poller: state file {site.state}: ")
        assert "the disk is mounted read-only; name a file elsewhere in SHOP_STATE_URL" in complaint
    assert len(site.served.requests) == requested

    code, stdout, _ = run_mounted(site, script, "check")
    assert code == 5
    assert "\nFAIL  state: " in stdout


def unprivileged() -> list[str]:
    """What to start a command with, so that permissions hold for it even if we are root."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write to anything, and there is no setpriv to give that up")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize(("what", "mode"), [("file", 0o400), ("directory", 0o500)])
def test_a_state_that_we_may_not_write_to_is_5(site: Site, what: str, mode: int) -> None:
    if what == "file":
        assert site.once().code == 0
    site.state.parent.mkdir(exist_ok=True)
    requested, path = len(site.served.requests), site.state if what == "file" else site.state.parent
    path.chmod(mode)
    with site.start("run", before=unprivileged()) as running:
        assert running.wait() == 5
        (complaint,) = running.stderr.splitlines()
    assert complaint == (
        f"shop-poller: state file {site.state}: Permission denied; check who owns the file and its directory"
    )
    assert len(site.served.requests) == requested

    path.chmod(0o700)
    assert site.once().code == 0


def test_a_limit_on_the_size_of_files_is_like_a_full_disk(site: Site) -> None:
    """The same without a mount: the limit is set, and lifted, while it runs."""
    with site.daemon() as daemon:
        early = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        site.polled(2)
        largest = max(file.stat().st_size for file in site.state.parent.iterdir())
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        meanwhile = [site.shop.create_order("processing") for _ in range(150)]
        failed = daemon.wait_for("polling failed")
        assert failed["error_type"] == "StoreError"
        site.polled(2)
        assert len(daemon.logged("polling failed")) == 1
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
        daemon.wait_for("the shop answers again")
        site.receiver.wait_for(151)
    assert all(site.receiver.story(order) == ["new"] for order in [early, *meanwhile])
    assert len(set(site.receiver.event_ids)) == 151


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("text/shop-poller.db", "check the path in SHOP_STATE_URL"),
        ("tmp", "Is a directory; check the path in SHOP_STATE_URL"),
        ("text", "file is not a database; name another file in SHOP_STATE_URL"),
    ],
)
def test_a_state_that_cannot_be_is_5_in_one_line(site: Site, path: str, said: str) -> None:
    (site.home / "text").write_text("This is a letter to my aunt. " * 100)
    done = site.run("run", SHOP_STATE_URL=f"sqlite:///{site.home}/{path}")
    assert (done.code, done.stdout) == (5, "")
    (complaint,) = done.stderr.splitlines()
    assert said in complaint
    assert (site.home / "text").read_text().startswith("This is a letter")
