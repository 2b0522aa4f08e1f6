"""`backup` and `restore` of state files: what is written, what is refused, and what a kill leaves."""

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
import typer

from shop_poller.cli import backup, restore
from shop_poller.cli.archive import MANIFEST, SUMS
from shop_poller.config.settings import Settings
from shop_poller.config.shops import file_apart
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.sqlite import backup as files
from shop_poller.stores.sqlite.file import APPLICATION_ID, restoring
from support.deliveries import SHOP, batch, known_order, new_deliveries
from support.killed_at import killed_before

WINDOWS_1251 = b"\xcf\xf0\xe8\xe2\xe5\xf2"


def settings(path: Path, shop: str = SHOP) -> Settings:
    return Settings.of(
        {
            "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
            "shop_id": shop,
            "shop_state_url": f"sqlite:///{path}",
        },
        parse_sink=parse_sink,
    )


def fill(path: Path, known: int, shop: str = SHOP) -> None:
    """Leave a state with so many known orders, each with a delivery that waits."""

    async def work() -> None:
        store = await SqliteStore.open(path)
        orders = range(1, known + 1)
        rows = [new_deliveries(key=str(order), event_id=str(order)) for order in orders]
        await store.commit(shop, batch(*rows, known=[known_order(order) for order in orders]))
        await store.aclose()

    anyio.run(work)


def known(path: Path) -> int:
    """How many orders a state knows, seen as the daemon sees it; fails if anything in it is wrong."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(db.execute("SELECT count(*) FROM known_orders").fetchone()[0])


def contents(path: Path) -> str:
    """All that is in a state; fails if anything in it is wrong."""
    known(path)
    with closing(sqlite3.connect(path)) as db:
        return "\n".join(db.iterdump())


def back_up(target: Path, *shops: Settings, overwrite: bool = False) -> backup.BackupReport:
    return anyio.run(
        partial(backup.back_up, shops, target, overwrite=overwrite, show=lambda _shop, _done, _of: None)
    )


def put_back(source: Path, *shops: Settings) -> backup.BackupReport:
    return anyio.run(partial(restore.restore_states, shops, source, show=lambda _shop, _done, _of: None))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
def saved(tmp_path: Path, path: Path) -> Path:
    """A backup of a state with 3 orders; the state has 5 by now."""
    fill(path, 3)
    back_up(tmp_path / "saved.tar", settings(path))
    fill(path, 5)
    return tmp_path / "saved.tar"


def refused(source: Path, shop: Settings, *words: str) -> str:
    """Why a restore is refused, in one line; it has to change nothing, and to leave nothing lying about."""
    assert isinstance(shop.state, Path)
    before = known(shop.state)
    with pytest.raises(PermanentError) as caught:
        put_back(source, shop)
    text = str(caught.value)
    assert caught.value.kind is ErrorKind.STORE
    assert "\n" not in text
    assert text.isprintable()
    for word in words:
        assert word in text
    assert known(shop.state) == before
    assert not restoring(shop.state).exists()
    return text


# --- what is written ----------------------------------------------------------------------------------------


def test_what_is_backed_up_comes_back(path: Path, saved: Path) -> None:
    assert known(path) == 5
    assert put_back(saved, settings(path)).done == [SHOP]
    assert known(path) == 3


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_backup_is_for_our_eyes_only_whatever_the_umask(tmp_path: Path, path: Path, umask: int) -> None:
    fill(path, 1)
    before = os.umask(umask)
    try:
        back_up(tmp_path / "backup.tar", settings(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "backup.tar").stat().st_mode) == 0o600
    assert {entry.name for entry in tmp_path.iterdir()} == {"backup.tar", "state"}


def test_it_is_a_tar_file_that_other_tools_read_and_verify(tmp_path: Path, saved: Path) -> None:
    script = f"tar xf {saved} && sha256sum -c {SUMS}"
    sh = ["/bin/sh", "-c", script]
    done = subprocess.run(sh, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"shops/000001.db: OK\n{MANIFEST}: OK\n"
    assert known(tmp_path / "shops" / "000001.db") == 3
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert (manifest["kind"], manifest["shops"]) == ("sqlite", {SHOP: "shops/000001.db"})


def test_what_is_in_the_log_is_in_the_backup_and_the_writer_is_not_held_up(
    tmp_path: Path, path: Path
) -> None:
    async def work() -> None:
        store = await SqliteStore.open(path)
        for number in range(1, 4):
            await store.commit(SHOP, batch(known=[known_order(number)]))
            target = tmp_path / f"{number}.tar"
            await backup.back_up([settings(path)], target, overwrite=False, show=lambda *_: None)
        await store.aclose()

    anyio.run(work)
    for number in (2, 1, 3):
        put_back(tmp_path / f"{number}.tar", settings(path))
        assert known(path) == number


def test_a_backup_does_not_begin_anew_because_somebody_commits(path: Path, tmp_path: Path) -> None:
    fill(path, 3000)
    steps: list[int] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def commit(done: int, _of: int) -> None:
            steps.append(done)
            other.execute("UPDATE known_orders SET seen_at = seen_at + 1 WHERE order_id = 1")

        pages, files.PAGES = files.PAGES, 10
        try:
            (tmp_path / "copy").touch()
            files.copy_state(path, tmp_path / "copy", commit)
        finally:
            files.PAGES = pages
    assert steps == sorted(steps)
    assert len(steps) > 10
    assert known(tmp_path / "copy") == 3000


def test_what_is_there_already_is_left_unless_one_says_so(tmp_path: Path, path: Path, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(
        backup.BackupRefusedError, match="already exists; name another file, or use --overwrite"
    ):
        back_up(saved, settings(path))
    assert saved.read_bytes() == before
    back_up(saved, settings(path), overwrite=True)
    assert put_back(saved, settings(path)).done == [SHOP]
    assert known(path) == 5
    for name in ("pipe", "directory", "link"):
        odd = tmp_path / name
        {"pipe": os.mkfifo, "directory": os.mkdir, "link": lambda to: to.symlink_to("/dev/null")}[name](odd)
        with pytest.raises(backup.BackupRefusedError, match="is not a regular file"):
            back_up(odd, settings(path), overwrite=True)


@pytest.mark.parametrize("ending", ["", "-wal", ".lock"])
def test_a_backup_never_overwrites_the_state(path: Path, ending: str) -> None:
    fill(path, 2)
    with pytest.raises(backup.BackupRefusedError, match="is the state itself"):
        back_up(Path(f"{path}{ending}"), settings(path), overwrite=True)
    assert known(path) == 2


@pytest.mark.parametrize("name", [".env", "shops.toml", "key", "other.db", ".restoring", "archive.tar"])
def test_only_a_backup_is_overwritten(tmp_path: Path, path: Path, name: str) -> None:
    """The state of a shop that was not asked for, settings, a key, another archive: all are kept."""
    fill(path, 2)
    there = tmp_path / name
    if name.endswith(".tar"):
        with tarfile.open(there, "w") as archive:
            archive.add(path, "photo.jpg")
    elif name in {"other.db", ".restoring"}:
        fill(there, 1, shop="tea.example")
    else:
        there.write_text("WOOCOMMERCE_CONSUMER_SECRET=cs_9e8d7c6b5a4f3e2d1c0b", encoding="utf-8")
    before = there.read_bytes()
    with pytest.raises(backup.BackupRefusedError, match="exists and is not a backup; name another file"):
        back_up(there, settings(path), overwrite=True)
    assert there.read_bytes() == before


def test_an_empty_file_may_be_overwritten(tmp_path: Path, path: Path) -> None:
    fill(path, 2)
    (tmp_path / "new.tar").touch()
    back_up(tmp_path / "new.tar", settings(path), overwrite=True)
    assert put_back(tmp_path / "new.tar", settings(path)).done == [SHOP]


def test_a_damaged_state_is_no_backup(tmp_path: Path, path: Path) -> None:
    fill(path, 500)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"x" * 20_000)
    with pytest.raises(PermanentError, match="damaged"):
        back_up(tmp_path / "backup.tar", settings(path))
    assert {entry.name for entry in tmp_path.iterdir()} == {"state"}


def test_of_several_shops_one_that_cannot_be_read_keeps_no_other_from_being_saved(tmp_path: Path) -> None:
    shops = [settings(file_apart(tmp_path / "s.db", name), name) for name in ("a", "b", "c", "new")]
    for number, shop in enumerate(shops[:3], 1):
        assert isinstance(shop.state, Path)
        fill(shop.state, number, shop.shop)
    broken = shops[1].state
    assert isinstance(broken, Path)
    whole = broken.read_bytes()
    broken.write_bytes(whole[:8192] + b"x" * (len(whole) - 8192))
    report = back_up(tmp_path / "backup.tar", *shops)
    assert report.done == ["a", "c"]
    assert report.left == [
        f"new: no state yet in {shops[3].state}; check SHOP_STATE_URL if it was polled before"
    ]
    assert len(report.failed) == 1
    assert report.failed[0].startswith("b: ")
    for shop in shops:
        if isinstance(shop.state, Path) and shop is not shops[1]:
            shop.state.unlink(missing_ok=True)
    report = put_back(tmp_path / "backup.tar", *shops)
    assert report.done == ["a", "c"]
    assert "b: is not in the backup; its state stays" in report.left
    assert [known(shops[0].state), known(shops[2].state)] == [1, 3]  # type: ignore[arg-type] # they are files


# --- what is refused ----------------------------------------------------------------------------------------


def rewritten(source: Path, change: Callable[[dict[str, bytes]], None], *, sums: bool = True) -> None:
    """Change what is in a backup; with sums that fit."""
    import hashlib  # noqa: PLC0415 - only here

    with tarfile.open(source) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    change(members)
    if sums:
        lines = [f"{hashlib.sha256(v).hexdigest()}  {k}\n" for k, v in members.items() if k != SUMS]
        members[SUMS] = "".join(lines).encode()
    with tarfile.open(source, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_a_backup_that_was_cut_off_anywhere_is_refused(path: Path, saved: Path) -> None:
    whole = saved.read_bytes()
    needed = len(whole.rstrip(b"\0"))
    cuts = {0, 1, 511, 512, 513, 4096, needed // 2, needed - 600, needed - 1, *range(700, needed, 9973)}
    for size in sorted(cuts):
        saved.write_bytes(whole[:size])
        refused(saved, settings(path), "saved.tar", "nothing was changed")


def test_a_backup_in_which_a_bit_flipped_is_refused(path: Path, saved: Path) -> None:
    whole = saved.read_bytes()
    with tarfile.open(saved) as tar:
        data = [(info.offset_data, info.size) for info in tar]
    for start, size in data:
        for at in (start, start + size // 2, start + size - 1):
            saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            refused(saved, settings(path), "nothing was changed")


@pytest.mark.parametrize(
    "content",
    [b"", b"This is a letter to my aunt. " * 100, b"\0" * 20_000, b"PK\x03\x04" * 500, WINDOWS_1251 * 1000],
    ids=["empty", "text", "zeros", "zip", "binary"],
)
def test_a_file_that_is_no_backup_is_refused(path: Path, saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    refused(saved, settings(path), "saved.tar", "nothing was changed")


def test_what_is_no_file_hangs_nobody(tmp_path: Path, path: Path) -> None:
    fill(path, 1)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", settings(path), "is not a regular file")
    refused(Path("/dev/zero"), settings(path), "is not a regular file")
    refused(tmp_path, settings(path), "is not a regular file")
    refused(tmp_path / "none", settings(path), "No such file or directory")


def test_members_that_grow_or_lead_elsewhere_are_refused(path: Path, saved: Path) -> None:
    whole = saved.read_bytes()
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.CHRTYPE):
        info = tarfile.TarInfo("shops/000002.db")
        info.type, info.linkname = kind, "/etc/passwd"
        with tarfile.open(saved, "w") as tar:
            tar.addfile(info)
        saved.write_bytes(saved.read_bytes()[:512] + whole)
        refused(saved, settings(path), "is not a backup of shop-poller")
    info = tarfile.TarInfo("shops/000002.db")
    info.size = 1 << 50
    saved.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + whole)
    refused(saved, settings(path), "is not a backup of shop-poller")


def test_a_backup_of_another_shop_is_refused_by_name(path: Path, saved: Path) -> None:
    fill(path, 4, "other.example")
    shop = settings(path, "other.example")
    refused(saved, shop, "is a backup of shop.example; the settings name other.example")

    def rename(members: dict[str, bytes]) -> None:
        members[MANIFEST] = members[MANIFEST].replace(b'"shop.example"', b'"other.example"')

    rewritten(saved, rename)
    refused(saved, shop, "is a state of shop.example, but the settings name other.example")


def test_a_backup_of_a_newer_version_is_refused_and_one_of_an_older_is_taken(path: Path, saved: Path) -> None:
    def newer(members: dict[str, bytes]) -> None:
        manifest = json.loads(members[MANIFEST])
        members[MANIFEST] = json.dumps(manifest | {"schema": 99, "version": "9.0\x1b[31m"}).encode()

    rewritten(saved, newer)
    refused(saved, settings(path), "was made by a newer shop-poller (9.0 [31m, schema 99;")

    def future(members: dict[str, bytes]) -> None:
        manifest = json.loads(members[MANIFEST])
        members[MANIFEST] = json.dumps(manifest | {"schema": 1, "format": 2}).encode()

    rewritten(saved, future)
    refused(saved, settings(path), "was made by another version of shop-poller")


def test_a_state_of_the_first_version_is_put_back_and_migrated_at_the_start(
    tmp_path: Path, path: Path
) -> None:
    old = tmp_path / "old.db"
    first = min((Path(files.__file__).parent / "migrations").glob("*.sql"))
    with closing(sqlite3.connect(old)) as db:
        db.executescript(first.read_text())
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO shops (shop_id, started_at) VALUES (?, 0)", [SHOP])
        db.commit()
    fill(path, 2)
    back_up(tmp_path / "old.tar", settings(old))
    for source in (old, tmp_path / "old.tar"):
        put_back(source, settings(path))
        assert known(path) == 0
        fill(path, 1)  # opens it for writing
        assert known(path) == 1


@pytest.mark.parametrize("spoil", ["another", "trigger", "newer", "view"])
def test_a_database_that_is_no_state_of_ours_is_refused(tmp_path: Path, path: Path, spoil: str) -> None:
    fill(path, 2)
    odd = tmp_path / "odd.db"
    shutil.copy(path, odd)
    with closing(sqlite3.connect(odd)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        if spoil == "another":
            db.execute("PRAGMA application_id = 7")
        elif spoil == "newer":
            db.execute("PRAGMA user_version = 99")
        elif spoil == "view":
            db.execute("CREATE VIEW more AS SELECT 1")
        else:
            db.execute("CREATE TRIGGER t AFTER INSERT ON outbox BEGIN DELETE FROM outbox; END")
        db.commit()
    refused(odd, settings(path), "odd.db")


def test_a_plain_copy_of_a_database_is_taken_with_its_log(tmp_path: Path, path: Path) -> None:
    """What `sqlite3 state.db ".backup copy.db"` makes; and one that was copied with its log after a kill."""
    fill(path, 2)
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        db.backup(copy)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE known_orders SET status = 'in the log'")
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", tmp_path / f"logged.db{end}")
    fill(path, 7)
    put_back(tmp_path / "copy.db", settings(path))
    assert known(path) == 2
    put_back(tmp_path / "logged.db", settings(path))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT DISTINCT status FROM known_orders").fetchall() == [("in the log",)]
    refused(path, settings(path), "is the state itself")


def test_a_restore_is_refused_while_somebody_uses_the_state(path: Path, saved: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:  # who takes no lock of ours
        other.execute("SELECT count(*) FROM shops").fetchone()
        report = put_back(saved, settings(path))
        assert report.done == []
        assert "locked" in report.failed[0]
        assert "nothing was changed" in report.failed[0] or "close that one" in report.failed[0]
        assert other.execute("SELECT count(*) FROM known_orders").fetchone() == (5,)

    async def while_a_daemon_runs() -> str:
        store = await SqliteStore.open(path)
        try:
            with pytest.raises(PermanentError) as caught:
                await restore.restore_states([settings(path)], saved, show=lambda *_: None)
        finally:
            await store.aclose()
        return str(caught.value)

    assert f"is in use by another shop-poller (process {os.getpid()})" in anyio.run(while_a_daemon_runs)
    assert known(path) == 5


# --- where it is put ----------------------------------------------------------------------------------------


def test_a_state_of_nobody_any_more_is_made_where_it_was(path: Path, saved: Path) -> None:
    shutil.rmtree(path.parent)
    put_back(saved, settings(path))
    assert known(path) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def owners(path: Path) -> set[tuple[int, int]]:
    return {(entry.stat().st_uid, entry.stat().st_gid) for entry in path.parent.iterdir()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("left", ["all", "no state", "no lock", "nothing"])
def test_what_root_restores_stays_the_services(path: Path, saved: Path, left: str) -> None:
    os.chown(path.parent, 1234, 4321)
    for entry in path.parent.iterdir():
        os.chown(entry, 1234, 4321)
    path.chmod(0o640)
    if left in {"no state", "nothing"}:
        path.unlink()
    if left in {"no lock", "nothing"}:
        Path(f"{path}.lock").unlink()
    put_back(saved, settings(path))
    assert owners(path) == {(1234, 4321)}
    assert stat.S_IMODE(path.stat().st_mode) == (0o640 if left in {"all", "no lock"} else 0o600)


def test_a_stale_log_is_gone_with_the_state_that_it_belonged_to(path: Path, saved: Path) -> None:
    """A copy was put over the state after a kill; its log and index still lie there."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE known_orders SET status = 'stale'")
        shutil.copy(f"{path}-wal", f"{path}.kept")
    for content in (path.read_bytes(), b"SQLite format 3\0" + b"x" * 8176, b""):
        path.write_bytes(content)
        shutil.copy(f"{path}.kept", f"{path}-wal")
        Path(f"{path}-journal").write_bytes(b"stale")
        put_back(saved, settings(path))
        assert not Path(f"{path}-wal").exists()
        assert not Path(f"{path}-journal").exists()
        assert known(path) == 3
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM known_orders WHERE status = 'stale'").fetchone() == (0,)


def test_what_is_no_database_is_not_taken_for_a_state(path: Path, saved: Path) -> None:
    path.write_bytes(b"This is a letter to my aunt. " * 100)
    report = put_back(saved, settings(path))
    assert "not a database; move it away first" in report.failed[0]
    assert path.read_bytes().startswith(b"This is a letter")


# --- kills and full disks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("logged", [False, True])
def test_killed_at_any_step_a_restore_leaves_the_state_of_before_or_the_other(
    path: Path, saved: Path, *, logged: bool
) -> None:
    template = path.parent.with_name("template")
    if logged:  # the daemon was killed: part of the state is in its log
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DELETE FROM known_orders WHERE order_id = 5")
            shutil.copytree(path.parent, template)
    else:
        shutil.copytree(path.parent, template)
    before = contents(path)
    put_back(saved, settings(path))
    after = contents(path)
    outcomes, step = set[str](), 0
    while True:
        shutil.rmtree(path.parent)
        shutil.copytree(template, path.parent)
        is_done = killed_before(step, lambda: put_back(saved, settings(path)))
        found = contents(path)
        assert found in {before, after}, f"killed at step {step}"
        outcomes.add(found)
        if is_done:
            assert found == after
            break
        assert put_back(saved, settings(path)).done == [SHOP], "once more"
        assert contents(path) == after
        assert {entry.name for entry in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}
        step += 1
    assert step > 20
    assert outcomes == {before, after}


def test_what_a_killed_restore_left_is_gone_after_the_next_start(path: Path, saved: Path) -> None:
    step = 0
    while not restoring(path).exists():
        assert not killed_before(step, lambda: put_back(saved, settings(path)))
        step += 1
    fill(path, 5)
    assert not restoring(path).exists()


def test_killed_at_any_step_a_backup_is_whole_or_not_there(tmp_path: Path, path: Path) -> None:
    fill(path, 3)
    target, step = tmp_path / "backup.tar", 0
    while not killed_before(step, lambda: back_up(target, settings(path))):
        if target.exists():
            assert put_back(target, settings(path)).done == [SHOP]
            target.unlink()
        assert known(path) == 3
        step += 1
    assert step > 10
    assert {entry.name for entry in tmp_path.iterdir()} == {"backup.tar", "state"}, "leftovers are used again"


@pytest.mark.parametrize(("skipped", "failed"), [(0, 25), (25, 0), (30, 5)])
def test_of_many_shops_some_are_named_and_all_are_counted(
    capsys: pytest.CaptureFixture[str], skipped: int, failed: int
) -> None:
    report = backup.BackupReport(
        ["a"], [f"left-{n}: reason" for n in range(skipped)], [f"failed-{n}: reason" for n in range(failed)]
    )
    with suppress(typer.Exit):
        report.show(lambda shops: f"{shops} restored", quiet=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == min(skipped, 20) + min(failed, 20) + 1
    assert lines[-1].endswith(f"in all {failed} shops failed and {skipped} were skipped")
