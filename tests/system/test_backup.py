"""`backup` and `restore` with real daemons, and what a daemon does whose state file is taken away."""

import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import COMMAND, environment, wait_until
from support.disks import fill, small_disk
from support.redis_server import RedisServer, redis_server
from support.simulated import shop_in_thread
from support.site import SHOP_ID, Site

NOTICED_S = 60.0
"""What is promised: within a minute."""


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    """A site whose state lies in a file, or in Redis."""
    if request.param == "file":
        yield site
        return
    with redis_server(site.home) as server:
        site.settings["SHOP_STATE_URL"] = server.url
        yield site


def test_a_backup_of_a_running_daemon_is_restored_with_the_same_event_ids(place: Site) -> None:
    with place.daemon() as daemon:
        early = place.shop.create_order("processing")
        place.receiver.wait_for(1)
        place.polled(2)
        done = place.run("backup", "saved.tar")
        assert (done.code, done.stdout, done.stderr) == (0, f"{SHOP_ID} backed up to saved.tar\n", "")
        late = place.shop.create_order("processing")
        place.receiver.wait_for(2)
        refused = place.run("restore", "saved.tar")
        assert (refused.code, refused.stdout) == (5, "")
        (complaint,) = refused.stderr.splitlines()
        assert "is in use by another shop-poller" in complaint or "holds the lease of" in complaint
        assert daemon.logged("polling failed") == []
        place.polled(1)
    told = place.receiver.event_ids
    done = place.run("restore", "saved.tar")
    assert (done.code, done.stdout, done.complaints) == (0, f"{SHOP_ID} restored from saved.tar\n", [])
    assert place.status()["known_orders"] == 1
    with place.daemon():
        place.receiver.wait_for(3)
        place.polled(2)
    assert place.receiver.event_ids == [*told, told[1]], "what was told since is told again by its id"
    assert place.receiver.events == [(str(early), "new"), (str(late), "new"), (str(late), "new")]
    assert stat.S_IMODE((place.home / "saved.tar").stat().st_mode) == 0o600


def test_the_shops_of_a_fleet_are_one_file(site: Site) -> None:
    with shop_in_thread() as other:
        site.name_shops({"honey": site.served.url, "tea": other.url})
        site.shop.create_order("processing")
        with site.start("run", "--config", "shops.toml") as daemon:
            daemon.wait_for("started")
            site.receiver.wait_for(1, within_s=60)
            wait_until(lambda: other.listings, "a poll of the other shop", within_s=60)
            files = site.state.with_name(f"{site.state.name}.shops")
            wait_until(lambda: {"honey.db", "tea.db"} <= {path.name for path in files.iterdir()}, "two files")
            done = site.run("backup", "saved.tar", "--config", "shops.toml")
            assert (done.code, done.stdout) == (0, "2 shops backed up to saved.tar\n")
            assert site.run("restore", "saved.tar", "--config", "shops.toml").code == 5
            assert daemon.stop() == 0
        for path in files.glob("*.db"):
            path.unlink()
        done = site.run("restore", "saved.tar", "--config", "shops.toml", "--shop", "honey")
        assert done.code == 0
        assert done.lines == ["honey restored from saved.tar"]
        assert not (files / "tea.db").exists()
        done = site.run("restore", "saved.tar", "--config", "shops.toml")
        assert (done.code, done.stdout, done.stderr) == (0, "2 shops restored from saved.tar\n", "")
        listed = site.run("shops", "list", "--config", "shops.toml", "--json")
        assert [json.loads(line)["trouble"] for line in listed.lines] == [None, None]


def test_standard_output_is_a_file_too(site: Site) -> None:
    assert site.once().code == 0
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{COMMAND}" backup - | gzip > saved.tar.gz'],
        cwd=site.home,
        env=environment(site.home, site.environment()),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    with tarfile.open(site.home / "saved.tar.gz") as tar:
        assert tar.getnames() == ["shops/000001.db", "manifest.json", "SHA256SUMS"]
    refused = site.run("restore", "saved.tar.gz")
    (complaint,) = refused.complaints
    assert refused.code == 5
    assert complaint.endswith("is compressed; nothing was changed; decompress it first, e.g. with gunzip")
    subprocess.run(["/bin/sh", "-c", "gunzip saved.tar.gz"], cwd=site.home, check=True)
    assert site.run("restore", "saved.tar").code == 0


def test_what_a_user_can_get_wrong_is_one_line(site: Site) -> None:
    done = site.run("backup", "saved.tar")
    line = f"{SHOP_ID}: no state yet in {site.state}; check SHOP_STATE_URL if it was polled before"
    assert (done.code, done.complaints) == (5, [f"shop-poller: {line}"])
    assert site.once().code == 0
    (site.home / "text").write_text("This is a letter to my aunt. " * 100)
    for args, code, words in [
        (("backup", "text"), 2, "already exists; name another file, or use --overwrite"),
        (("backup", "none/saved.tar"), 2, "there is no directory none; create it first"),
        (("backup", str(site.state), "--overwrite"), 2, "is the state itself"),
        (("backup", "a" * 300), 2, "File name too long"),
        (("backup", "saved.tar", "--shop", "tea"), 2, "there is no shop 'tea'"),
        (("restore", "text"), 5, "is not a backup of shop-poller"),
        (("restore", "none.tar"), 5, "No such file or directory; nothing was changed"),
        (("restore", "."), 5, "is not a regular file; nothing was changed"),
    ]:
        done = site.run(*args)
        (complaint,) = done.stderr.splitlines()
        assert (done.code, done.stdout) == (code, "")
        assert words in complaint
    assert {path.name for path in site.home.iterdir()} == {"state", "text", "tmp"}


def test_a_disk_that_is_full_changes_nothing(site: Site) -> None:
    for _ in range(30):
        site.shop.create_order("processing")
    assert site.once().code == 0
    assert site.run("backup", "saved.tar").code == 0
    small, saved = site.home / "small", f"{site.home}/saved.tar"
    with small_disk(small) as disk:
        fill(disk.ballast)
        with site.start("backup", f"{small}/saved.tar", before=disk.before) as running:
            assert running.wait() == 4
            (complaint,) = running.stderr.splitlines()
        assert complaint.startswith(f"shop-poller: the backup cannot be written: {small}/")
        assert "full" in complaint or "No space left" in complaint
        assert {path.name for path in disk.path.iterdir()} == {"ballast"}

        url = f"sqlite:///{site.home}/small/shop-poller.db"
        with site.start("restore", saved, before=disk.before, SHOP_STATE_URL=url) as running:
            assert running.wait() == 5
            (complaint,) = running.stderr.splitlines()
        assert "No space left on device; free some space" in complaint
        assert "shop-poller.db" not in {path.name for path in disk.path.iterdir()}
        disk.ballast.unlink()
        with site.start("restore", saved, before=disk.before, SHOP_STATE_URL=url) as running:
            assert running.wait() == 0


# --- what is taken away while it runs -----------------------------------------------------------------------


def test_a_daemon_whose_state_file_is_deleted_ends_within_a_minute_and_says_so(site: Site) -> None:
    with site.start("run") as daemon:
        daemon.wait_for("started")
        site.shop.create_order("processing")
        site.receiver.wait_for(1)
        site.polled(2)
        site.state.unlink()
        assert daemon.wait(within_s=NOTICED_S) == 5
        *_, complaint = daemon.stderr.splitlines()
    said = f"shop-poller: state file {site.state}: {site.state} was deleted while it was open; nothing is"
    assert complaint.startswith(said)
    assert "Restart shop-poller" in complaint
    logged = [json.loads(line) for line in daemon.stderr.splitlines() if line.startswith("{")]
    assert (
        len([entry for entry in logged if entry["event"].startswith("the state can no longer be used")]) == 1
    )
    assert not any("exception" in entry for entry in logged)


def test_in_a_fleet_a_state_file_that_is_deleted_is_that_shops_trouble_only(site: Site) -> None:
    with shop_in_thread() as other:
        site.name_shops({"honey": site.served.url, "tea": other.url})
        with site.start("run", "--config", "shops.toml") as daemon:
            daemon.wait_for("started")
            wait_until(lambda: site.served.listings and other.listings, "polls of both", within_s=60)
            files = site.state.with_name(f"{site.state.name}.shops")
            (files / "tea.db").unlink()
            told = daemon.wait_for("the shop cannot be watched; retrying", within_s=NOTICED_S)
            assert told["shop"] == "tea"
            assert "tea.db was deleted while it was open" in told["error"]
            before = len(site.walks)
            wait_until(lambda: len(site.walks) > before + 2, "more polls of the other shop")
            wait_until((files / "tea.db").exists, "the shop, watched again", within_s=NOTICED_S)
            assert daemon.stop() == 0


def test_a_lock_that_is_a_link_is_5_in_one_line(site: Site) -> None:
    site.state.parent.mkdir()
    (site.home / "precious").write_text("keep me")
    Path(f"{site.state}.lock").symlink_to(site.home / "precious")
    done = site.run("run")
    assert (done.code, done.stdout) == (5, "")
    assert done.stderr == (
        f"shop-poller: {site.state}.lock is a symbolic link, not a lock file of shop-poller; move it away and"
        " start again\n"
    )
    assert (site.home / "precious").read_text() == "keep me"


def test_a_copy_by_hand_over_a_log_of_before_is_5_and_restore_puts_it_right(site: Site) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    shutil.copy(site.state, site.home / "copy.db")
    with site.start("run") as daemon:
        daemon.wait_for("started")
        site.shop.create_order("processing")
        site.receiver.wait_for(2)
        site.polled(2)
        daemon.kill()
    (site.home / "copy.db").rename(site.home / "restored.db")
    shutil.copy(site.home / "restored.db", site.home / "state" / "moved.db")
    (site.home / "state" / "moved.db").replace(site.state)
    for args in (["status"], ["run"], ["run", "--once"], ["dead", "list"], ["backup", "b.tar"]):
        done = site.run(*args)
        assert (done.code, done.stdout) == (5, "")
        (complaint,) = done.stderr.splitlines()
        assert "was replaced by hand" in complaint
        assert "shop-poller restore FILE" in complaint
    check = site.run("check")
    assert check.code == 5
    assert "was replaced by hand" in check.stdout
    assert site.run("restore", "restored.db").code == 0
    assert site.status()["known_orders"] == 1


# --- permissions --------------------------------------------------------------------------------------------


def test_what_others_can_read_or_write_is_warned_of(site: Site) -> None:
    assert site.once().code == 0
    secret = site.home / "secret"
    secret.write_text(site.environment()["WOOCOMMERCE_CONSUMER_SECRET"])
    secret.chmod(0o600)
    dotenv = site.home / ".env"
    dotenv.write_text("SHOP_LOCALE=en\n")
    dotenv.chmod(0o600)
    site.settings |= {
        "WOOCOMMERCE_CONSUMER_SECRET": None,
        "WOOCOMMERCE_CONSUMER_SECRET_FILE": str(secret),
    }
    done = site.run("check")
    assert (done.code, [line for line in done.lines if "permissions" in line]) == (0, [])
    with site.daemon() as daemon:
        site.polled()
        assert daemon.logged("others can read or write a file of ours") == []

    secret.chmod(0o644)
    dotenv.chmod(0o602)
    site.state.chmod(0o660)
    site.state.parent.chmod(0o755)
    expected = [
        f"others can read {secret} (mode 0644): chmod 600 {secret}",
        "others can write .env (mode 0602): chmod 600 .env",
        f"others can read {site.state.parent} (mode 0755): chmod 700 {site.state.parent}",
        f"others can read and write {site.state} (mode 0660): chmod 600 {site.state}",
    ]
    done = site.run("check")
    assert done.code == 0, "it works all the same"
    assert {f"ok    permissions: warning: {line}" for line in expected} <= {*done.lines}
    with site.daemon() as daemon:
        site.polled(2)
        told = [entry["detail"] for entry in daemon.logged("others can read or write a file of ours")]
    assert {*expected} <= {*told}
    assert len(told) == len(set(told)), "once"
    for line in told:
        if line.endswith(("-wal", "-shm")):  # gone with the daemon
            continue
        subprocess.run(["/bin/sh", "-c", line.partition("): ")[2]], cwd=site.home, check=True)
    assert "permissions" not in site.run("check").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work in place of a service")
def test_root_leaves_nothing_behind_that_the_service_cannot_open(site: Site) -> None:
    assert site.once().code == 0
    assert site.run("backup", "saved.tar").code == 0
    uid = 65534
    for path in (site.state.parent, *site.state.parent.iterdir()):
        os.chown(path, uid, uid)
    for missing in (None, site.state, Path(f"{site.state}.lock")):
        if missing is not None:
            missing.unlink()
        assert site.run("restore", "saved.tar").code == 0
        assert {path.stat().st_uid for path in site.state.parent.iterdir()} == {uid}


def test_a_server_that_is_gone_is_5_in_one_line(site: Site) -> None:
    server = RedisServer(site.home / "redis")
    site.settings["SHOP_STATE_URL"] = server.url
    assert site.once().code == 5
    for args in (["backup", "saved.tar"], ["restore", "saved.tar"]):
        done = site.run(*args)
        assert done.code == 5
        assert len(done.complaints) == 1
    assert not (site.home / "saved.tar").exists()
