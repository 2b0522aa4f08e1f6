"""The file itself: opened by one writer, made and migrated when needed, explained when it fails."""

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.stores.damage import Damage
from shop_poller.stores.sqlite.checked import CheckedConnection
from shop_poller.stores.sqlite.stale_log import has_stale_log

APPLICATION_ID = 0x53504F4C  # "SPOL" in the file's header: this is ours
MIGRATIONS = sorted((Path(__file__).parent / "migrations").glob("*.sql"))
BUSY_TIMEOUT_S = 5.0
"""How long another process's lock is waited for: `status` and backups hold it for milliseconds."""

DAMAGED = (
    "the file is damaged: `shop-poller state check` says where; restore a backup, or move the file away to"
    " start over"
)
BEYOND_USE = ("malformed", "not a database", "no such table", "no such column", "no such index")
ADVICE = {
    "full": "free some space, it then goes on by itself",
    "No space left": "free some space, it then goes on by itself",
    "readonly": "check who owns the file and whether the disk is mounted read-only",
    "Read-only": "the disk is mounted read-only; name a file elsewhere in SHOP_STATE_URL",
    "Permission denied": "check who owns the file and its directory",
    "unable to open": "check that its directory exists and who owns it",
    "disk I/O": "check the disk and its free space",
    "malformed": DAMAGED,
    "no such table": DAMAGED,
    "no such column": DAMAGED,
    "no such index": DAMAGED,
    "not a database": "name another file in SHOP_STATE_URL, restore a backup, or move it away to start over",
    "locked": "another program is writing to it, a backup or an sqlite3 shell; close that one",
}
OTHER_ADVICE = "check the path in SHOP_STATE_URL"
LOCK_KINDS = {errno.ELOOP: "a symbolic link", errno.EISDIR: "a directory"}
MOST_LOCK_BYTES = 200
"""Our lock files hold a few numbers; nothing larger is emptied."""


class StateConnection(CheckedConnection):
    """A connection that remembers which damaged rows were told of.

    Attributes:
        damage: found by it.
        is_writer: what is damaged may be set aside; else it is only read around.
    """

    damage: Damage
    is_writer: bool


def open_for_writing(path: Path) -> tuple[StateConnection, int]:
    """Open, create or migrate the file.

    Returns:
        The connection, and the lock's file descriptor, to be closed after it.

    Raises:
        PermanentError: STORE, in use by another process, not ours, or too new.
        sqlite3.Error, OSError: see `explain`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_kind(path)
    lock = lock_for(path)
    try:
        restoring(path).unlink(missing_ok=True)  # of a `restore` that was killed
        _check_log(path)
        # Buyers' first names are in it: for our eyes only.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOCTTY, 0o600))
        with _connection(str(path)) as db:
            _check_owner(db, path)  # before a byte of it is changed
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before anything is sent
            _migrate(db, path)
            db.is_writer = True
    except BaseException:
        os.close(lock)
        raise
    return db, lock


def open_for_reading(path: Path) -> tuple[StateConnection, None]:
    """Open an existing file beside whoever writes to it; of one that is yet to be migrated, a copy that is.

    Raises:
        PermanentError: STORE, there is none.
        sqlite3.Error: see `explain`.
    """
    db, version = _open_read_only(path)
    if version < len(MIGRATIONS):
        db.close()
        return open_copy(path)
    return db, None


def open_to_follow(path: Path) -> tuple[StateConnection, None]:
    """Open an existing file to see what is written to it from now on, which in a copy would never appear.

    Raises:
        PermanentError: STORE, there is none, or it is yet to be migrated.
        sqlite3.Error: see `explain`.
    """
    db, version = _open_read_only(path)
    if version < len(MIGRATIONS):
        db.close()
        raise _older(path)
    return db, None


def open_concurrently(path: Path) -> tuple[StateConnection, int | None]:
    """Open an existing file to write a little beside whoever polls; raises what `open_for_reading` raises.

    Returns:
        The connection, and the lock's file, which is not locked, for notes on the log; see `stale_log`.
    """
    if not path.exists():
        raise _missing(path)
    _check_kind(path)
    _check_log(path)
    with _connection(f"{path.resolve().as_uri()}?mode=rw", uri=True) as db:
        version = _check_owner(db, path)
        if not version:
            raise _missing(path)
        if version < len(MIGRATIONS):
            raise _older(path)
        db.execute("PRAGMA synchronous = FULL")
        notes = None
        with suppress(OSError):
            notes = os.open(f"{os.path.realpath(path)}.lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    return db, notes


def open_as_it_is(path: Path) -> sqlite3.Connection:
    """Open an existing file to copy it, of whatever version; raises what `open_for_reading` raises."""
    db, _ = _open_read_only(path)
    return db


def schema_of(db: sqlite3.Connection, path: Path) -> int:
    """The version of the schema; 0 if there is nothing in the file.

    Raises:
        PermanentError: STORE, it is another program's, or of a newer shop-poller.
        sqlite3.Error: it cannot be read.
    """
    return _check_owner(db, path)


def open_copy(path: Path) -> tuple[StateConnection, None]:
    """A copy in memory, empty if there is no file; raises what `open_for_reading` raises."""
    with _connection(":memory:") as db:
        if path.exists():
            _check_kind(path)
            _check_log(path)
            with _connection(_read_only(path), uri=True) as original:
                _check_owner(original, path)
                original.backup(db)
                original.close()
        _migrate(db, path)
        db.is_writer = True
    return db, None


def open_empty(path: Path) -> tuple[StateConnection, None]:
    """Nothing yet, in memory."""
    with _connection(":memory:") as db:
        _migrate(db, path)
    return db, None


def restoring(path: Path) -> Path:
    """Where the next state of a file is put together before it takes its place."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.restoring")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors, a full disk among them, have rolled back already
            db.execute("ROLLBACK")
        raise


def explain(error: sqlite3.Error | OSError, path: Path) -> str:
    """Say in one line what is wrong with the file and what to do."""
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    advice = next((advice for part, advice in ADVICE.items() if part in text), OTHER_ADVICE)
    return f"state file {path}: {text}; {advice}"


def is_beyond_use(error: sqlite3.Error) -> bool:
    """Whether the file is damaged as a whole, so that trying again cannot help."""
    return any(part in str(error) for part in BEYOND_USE)


@contextmanager
def _connection(target: str, *, uri: bool = False) -> Iterator[StateConnection]:
    """A new connection, closed again if what is done with it at first fails."""
    db: StateConnection = sqlite3.connect(
        target,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are ours to begin
        check_same_thread=False,  # by one thread at a time; the stores of several shops share some
        uri=uri,
        factory=StateConnection,
    )
    db.damage, db.is_writer = Damage(), False
    db.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")  # see stored.is_clean
    try:
        db.execute("PRAGMA temp_store = MEMORY")
        # Claims live in memory: those of a process that dies are void at once.
        db.execute("CREATE TEMP TABLE claimed (seq INTEGER PRIMARY KEY)")
        yield db
    except BaseException:
        db.close()
        raise


def _open_read_only(path: Path) -> tuple[StateConnection, int]:
    """An existing file, and its schema's version."""
    if not path.exists():
        raise _missing(path)
    _check_kind(path)
    _check_log(path)
    with _connection(_read_only(path), uri=True) as db:
        version = _check_owner(db, path)
        if not version:  # made a moment ago, or by one that was killed in that moment
            raise _missing(path)
    return db, version


def _read_only(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


def _check_kind(path: Path) -> None:
    """Refuse what is no file: a pipe would hang whoever opens it.

    A symbolic link is followed, so that the state may lie on another disk; but not another user's.

    Raises:
        PermanentError: STORE, it is a link of another user.
        OSError: see `explain`.
    """
    try:
        link, owners = path.lstat(), {0, os.geteuid(), path.parent.stat().st_uid}
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in owners:
            raise PermanentError(
                ErrorKind.STORE,
                f"{path} is a symbolic link that another user made (uid {link.st_uid}); remove it, and look"
                " who may write to its directory",
            )
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def _check_log(path: Path) -> None:
    """Refuse a copy that was put in place of the state by hand, and would be mixed with the log of before."""
    real = Path(os.path.realpath(path))
    if has_stale_log(real):
        raise PermanentError(
            ErrorKind.STORE,
            f"state file {path}: was replaced by hand, and {real}-wal is of the file before; put a backup"
            f" back with `shop-poller restore FILE`, or remove {real}-wal and {real}-shm to use what is there"
            " now",
        )


def lock_for(path: Path) -> int:
    """Keep every other writer away; the kernel lets go of the lock however this process ends.

    Returns:
        The descriptor of the lock file; closing it ends the lock.

    Raises:
        PermanentError: STORE, another process has the lock, or what lies there is no lock file of ours.
        OSError: see `explain`.
    """
    real = os.path.realpath(path)  # the same file by another name is the same file
    name = f"{real}.lock"
    while True:
        lock = _open_lock(name)
        try:
            if _locked(lock, path, name):
                return lock
        except BaseException:
            os.close(lock)  # or this process would keep itself out for as long as it lives
            raise
        os.close(lock)


def _locked(lock: int, path: Path, name: str) -> bool:
    """Lock an open lock file and write into it who we are; whether it is still the one of that name."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).partition(b"\n")[0].decode("ascii", "replace").strip()
        raise PermanentError(
            ErrorKind.STORE,
            f"{path} is in use by another shop-poller (process {holder}); stop that one first, or give"
            " this one a file of its own in SHOP_STATE_URL",
        ) from None
    if not _is_named(lock, name):  # it was deleted meanwhile, and the next one would lock another file
        return False
    noted = os.read(lock, MOST_LOCK_BYTES).partition(b"\n")[2]  # see `stale_log`
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode() + noted, 0)  # fails on a full disk
    return True


def check_lock(path: Path) -> None:
    """Look whether what lies in the place of the lock file is one; it is not locked, and none is made.

    Raises:
        PermanentError: STORE, it is not.
        OSError: see `explain`.
    """
    name = f"{os.path.realpath(path)}.lock"
    if os.path.lexists(name):
        os.close(_open_lock(name, keeps_owner=False))


def _open_lock(name: str, *, keeps_owner: bool = True) -> int:
    """Open or create the lock file, and nothing that only has its name.

    We write into it: a link would let whoever may write to the directory choose another file for that.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        lock = os.open(name, flags, 0o600)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EINVAL}:
            raise _no_lock(name, LOCK_KINDS.get(error.errno or 0, "a special file")) from error
        raise
    about = os.fstat(lock)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 or about.st_size > MOST_LOCK_BYTES:
        os.close(lock)
        special = "a special file" if not stat.S_ISREG(about.st_mode) else "another file"
        raise _no_lock(name, "a hard link to another file" if about.st_nlink > 1 else special)
    if (
        keeps_owner and not os.geteuid()
    ):  # root works in place of the service, which has to be able to open it afterwards
        with suppress(OSError):  # in some containers root may not
            keep_owner(lock, Path(name).parent)
    return lock


def keep_owner(file: int, like: Path) -> None:
    """Give an open file the owner and the group of another file; if they differ, that needs root.

    Raises:
        OSError: it cannot be given to them.
    """
    wanted, about = like.stat(), os.fstat(file)
    if (wanted.st_uid, wanted.st_gid) != (about.st_uid, about.st_gid):
        os.fchown(file, wanted.st_uid, wanted.st_gid)


def _no_lock(name: str, what: str) -> PermanentError:
    return PermanentError(
        ErrorKind.STORE, f"{name} is {what}, not a lock file of shop-poller; move it away and start again"
    )


def _is_named(file: int, name: str) -> bool:
    """Whether an open file still has this name."""
    ours = os.fstat(file)
    try:
        theirs = os.lstat(name)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _check_owner(db: sqlite3.Connection, path: Path) -> int:
    """Return the schema's version; 0 if the file is empty."""
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    if owner != APPLICATION_ID and db.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()[0]:
        raise PermanentError(
            ErrorKind.STORE, f"{path} is a database of another program; name another file in SHOP_STATE_URL"
        )
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise PermanentError(
            ErrorKind.STORE,
            f"{path} was written by a newer shop-poller (schema {version}, this one knows up to"
            f" {len(MIGRATIONS)}); install the newer one again",
        )
    return version


def _missing(path: Path) -> PermanentError:
    return PermanentError(ErrorKind.STORE, f"{path}: no state yet; `shop-poller run` makes it")


def _older(path: Path) -> PermanentError:
    return PermanentError(
        ErrorKind.STORE,
        f"{path} was written by an older shop-poller; start `shop-poller run` once, which brings it up to"
        " date",
    )


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = _check_owner(db, path)
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(db):
            for statement in script.read_text(encoding="utf-8").split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")
