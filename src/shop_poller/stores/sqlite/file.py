"""The state file: opens it for one writer, creates and migrates it if needed, and explains its errors."""

import errno
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shop_poller.core.errors import ErrorKind, PermanentError, text_of
from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Text
from shop_poller.stores.damage import Damage
from shop_poller.stores.sqlite.checked import CheckedConnection
from shop_poller.stores.sqlite.stale_log import has_stale_log

APPLICATION_ID = 0x53504F4C  # "SPOL" in the header of the file marks it as ours
MIGRATIONS = sorted((Path(__file__).parent / "migrations").glob("*.sql"))
BUSY_TIMEOUT_S = 5.0
"""How long to wait for the lock of another process. `status` and backups hold it for milliseconds."""

DAMAGED = Text(
    "the file is damaged: `shop-poller state check` says where; restore a backup, or move the file away to"
    " start over"
)
BEYOND_USE = ("malformed", "not a database", "no such table", "no such column", "no such index")
ADVICE = {
    "full": Text("free some space, work then resumes by itself"),
    "No space left": Text("free some space, work then resumes by itself"),
    "readonly": Text("check who owns the file and whether the disk is mounted read-only"),
    "Read-only": Text("the disk is mounted read-only; name a file elsewhere in SHOP_STATE_URL"),
    "Permission denied": Text("check who owns the file and its directory"),
    "unable to open": Text("check that its directory exists and who owns it"),
    "disk I/O": Text("check the disk and its free space"),
    "malformed": DAMAGED,
    "no such table": DAMAGED,
    "no such column": DAMAGED,
    "no such index": DAMAGED,
    "not a database": Text(
        "name another file in SHOP_STATE_URL, restore a backup, or move it away to start over"
    ),
    "locked": Text("another program is writing to it, a backup or an sqlite3 shell; close that one"),
}
OTHER_ADVICE = Text("check the path in SHOP_STATE_URL")
LOCK_KINDS = {errno.ELOOP: Text("a symbolic link"), errno.EISDIR: Text("a directory")}
LOCK_TRIES, LOCK_PAUSE_S = 3, 0.01
MOST_LOCK_BYTES = 200
"""Our lock files contain a few numbers. A larger file is not ours and is not truncated."""


class StateConnection(CheckedConnection):
    """A connection that remembers which damaged rows were logged.

    Attributes:
        damage: the damaged rows that it found.
        is_writer: whether it may set damaged rows aside. If not, it reads around them.
    """

    damage: Damage
    is_writer: bool


def open_for_writing(path: Path) -> tuple[StateConnection, int]:
    """Open the file; create or migrate it if needed.

    Returns:
        The connection, and the file descriptor of the lock, which must be closed after the connection.

    Raises:
        PermanentError: STORE, the file is in use by another process, not ours, or too new.
        sqlite3.Error, OSError: see `explain`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_kind(path)
    lock = lock_for(path)
    try:
        restoring(path).unlink(missing_ok=True)  # left by a killed `restore`
        _check_log(path)
        # The file contains buyers' first names, so only we may read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOCTTY, 0o600))
        with _connection(str(path)) as db:
            _check_owner(db, path)  # before the file is changed
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before anything is sent
            _migrate(db, path)
            db.is_writer = True
    except BaseException:
        os.close(lock)
        raise
    return db, lock


def open_for_reading(path: Path) -> tuple[StateConnection, None]:
    """Open an existing file for reading while another process may write to it.

    If the file is not migrated yet, a migrated copy in memory is opened instead.

    Raises:
        PermanentError: STORE, there is no state.
        sqlite3.Error: see `explain`.
    """
    db, version = _open_read_only(path)
    if version < len(MIGRATIONS):
        db.close()
        return open_copy(path)
    return db, None


def open_to_follow(path: Path) -> tuple[StateConnection, None]:
    """Open an existing file to read what is written to it from now on. A copy would never show that.

    Raises:
        PermanentError: STORE, there is no state, or it is not migrated yet.
        sqlite3.Error: see `explain`.
    """
    db, version = _open_read_only(path)
    if version < len(MIGRATIONS):
        db.close()
        raise _older(path)
    return db, None


def open_concurrently(path: Path) -> tuple[StateConnection, int | None]:
    """Open an existing file to write a little while another process may poll.

    Returns:
        The connection, and the descriptor of the lock file for notes on the log, see `stale_log`. The file is
        not locked.

    Raises:
        PermanentError: STORE, there is no state, or it is not migrated yet.
        sqlite3.Error: see `explain`.
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
    """Open an existing file of any version to copy it. Raises what `open_for_reading` raises."""
    db, _ = _open_read_only(path)
    return db


def schema_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the schema; 0 if the file is empty.

    Raises:
        PermanentError: STORE, the file belongs to another program, or to a newer shop-poller.
        sqlite3.Error: the file cannot be read.
    """
    return _check_owner(db, path)


def open_copy(path: Path) -> tuple[StateConnection, None]:
    """Return a copy in memory, empty if there is no file. Raises what `open_for_reading` raises."""
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
    """Return an empty state in memory."""
    with _connection(":memory:") as db:
        _migrate(db, path)
    return db, None


def restoring(path: Path) -> Path:
    """Return the path where a restore builds the next state before it replaces the file."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.restoring")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block in one transaction: all of it takes effect, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors, such as a full disk, roll back by themselves
            db.execute("ROLLBACK")
        raise


def explain(error: sqlite3.Error | OSError, path: Path) -> str:
    """Return in one line what is wrong with the file and how to fix it."""
    text = (error.strerror if isinstance(error, OSError) else None) or text_of(error)
    advice = next((advice for part, advice in ADVICE.items() if part in text), OTHER_ADVICE)
    return Text("state file {path}: {problem}; {advice}", path=path, problem=known(text), advice=advice)


def is_beyond_use(error: sqlite3.Error) -> bool:
    """Return whether the file as a whole is damaged, so that a retry cannot help."""
    return any(part in str(error) for part in BEYOND_USE)


@contextmanager
def _connection(target: str, *, uri: bool = False) -> Iterator[StateConnection]:
    """Open a connection. If the block fails, close it."""
    db: StateConnection = sqlite3.connect(
        target,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # we begin transactions ourselves
        check_same_thread=False,  # one thread at a time uses it; the stores of several shops share threads
        uri=uri,
        factory=StateConnection,
    )
    db.damage, db.is_writer = Damage(), False
    db.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")  # see stored.is_clean
    try:
        db.execute("PRAGMA temp_store = MEMORY")
        # Claims are kept in memory: if a process dies, its claims are void at once.
        db.execute("CREATE TEMP TABLE claimed (seq INTEGER PRIMARY KEY)")
        yield db
    except BaseException:
        db.close()
        raise


def _open_read_only(path: Path) -> tuple[StateConnection, int]:
    """Open an existing file, and return the version of its schema too."""
    if not path.exists():
        raise _missing(path)
    _check_kind(path)
    _check_log(path)
    with _connection(_read_only(path), uri=True) as db:
        version = _check_owner(db, path)
        if not version:  # just created, or the process that created it was killed
            raise _missing(path)
    return db, version


def _read_only(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


def _check_kind(path: Path) -> None:
    """Refuse anything but a file: opening a pipe would hang.

    A symbolic link is followed, so that the state may be on another disk, but not one made by another user.

    Raises:
        PermanentError: STORE, it is a link made by another user.
        OSError: see `explain`.
    """
    try:
        link, owners = path.lstat(), {0, os.geteuid(), path.parent.stat().st_uid}
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in owners:
            raise PermanentError(
                ErrorKind.STORE,
                Text(
                    "{path} is a symbolic link that another user made (uid {uid}); remove it, and "
                    "check who may write to its directory",
                    path=path,
                    uid=link.st_uid,
                ),
            )
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, Text("is not a regular file"), str(path))


def _check_log(path: Path) -> None:
    """Refuse a copy put in place by hand: SQLite would mix it with the log of the former file."""
    real = Path(os.path.realpath(path))
    if has_stale_log(real):
        raise PermanentError(
            ErrorKind.STORE,
            Text(
                "state file {path}: was replaced by hand, and {real}-wal belongs to the former file. "
                "Restore a backup with `shop-poller restore FILE`, or remove {real}-wal and "
                "{real}-shm to use the present file",
                path=path,
                real=real,
            ),
        )


def lock_for(path: Path) -> int:
    """Lock the state against all other writers. The kernel releases the lock however this process ends.

    Returns:
        The descriptor of the lock file. Closing it releases the lock.

    Raises:
        PermanentError: STORE, another process has the lock, or the file of that name is not our lock file.
        OSError: see `explain`.
    """
    real = os.path.realpath(path)  # one file has one lock, by whatever name it is opened
    name = f"{real}.lock"
    while True:
        lock = _open_lock(name)
        try:
            if _locked(lock, path, name):
                return lock
        except BaseException:
            os.close(lock)  # otherwise this process would lock itself out until it ends
            raise
        os.close(lock)


def _locked(lock: int, path: Path, name: str) -> bool:
    """Lock an open lock file and write our process id into it. Return whether it still has that name."""
    try:
        _flock(lock)
    except BlockingIOError:
        holder = os.read(lock, 20).partition(b"\n")[0].decode("ascii", "replace").strip()
        raise PermanentError(
            ErrorKind.STORE,
            Text(
                "{path} is in use by another shop-poller (process {holder}); stop that one first, or "
                "give this one a file of its own in SHOP_STATE_URL",
                path=path,
                holder=holder,
            ),
        ) from None
    if not _is_named(lock, name):  # it was deleted meanwhile, so another process would lock another file
        return False
    noted = os.read(lock, MOST_LOCK_BYTES).partition(b"\n")[2]  # see `stale_log`
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode() + noted, 0)  # fails on a full disk
    return True


def _flock(lock: int) -> None:
    """Lock an open lock file. `lock_owner` has it for some microseconds, so this tries more than once.

    Raises:
        BlockingIOError: another process has it.
    """
    for left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(LOCK_PAUSE_S)
        else:
            return


def check_lock(path: Path) -> None:
    """Check that the lock file, if it exists, is really one. It is neither locked nor created.

    Raises:
        PermanentError: STORE, it is not a lock file.
        OSError: see `explain`.
    """
    name = f"{os.path.realpath(path)}.lock"
    if os.path.lexists(name):
        os.close(_open_lock(name, keeps_owner=False))


def lock_owner(path: Path) -> str:
    """Return the process that has the lock, as it noted it; "" if no process has it.

    This shows it without waiting. For the moment of the test no other process can take the lock.

    Raises:
        OSError: the lock file cannot be read.
    """
    try:
        lock = os.open(
            f"{os.path.realpath(path)}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(lock, 20).partition(b"\n")[0].decode("ascii", "replace").strip() or "?"
    finally:
        os.close(lock)
    return ""


def _open_lock(name: str, *, keeps_owner: bool = True) -> int:
    """Open or create the lock file. Refuse anything else of that name.

    We write into it. Through a link, any user who may write to the directory could make us write into another
    file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        lock = os.open(name, flags, 0o600)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EINVAL}:
            raise _no_lock(name, LOCK_KINDS.get(error.errno or 0, Text("a special file"))) from error
        raise
    about = os.fstat(lock)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 or about.st_size > MOST_LOCK_BYTES:
        os.close(lock)
        special = Text("a special file") if not stat.S_ISREG(about.st_mode) else Text("another file")
        raise _no_lock(name, Text("a hard link to another file") if about.st_nlink > 1 else special)
    if (
        keeps_owner and not os.geteuid()
    ):  # root acts for the service, which must be able to open the file afterwards
        with suppress(OSError):  # some containers do not allow that to root
            keep_owner(lock, Path(name).parent)
    return lock


def keep_owner(file: int, like: Path) -> None:
    """Give an open file the owner and the group of another file. If they differ, this needs root.

    Raises:
        OSError: the owner cannot be changed.
    """
    wanted, about = like.stat(), os.fstat(file)
    if (wanted.st_uid, wanted.st_gid) != (about.st_uid, about.st_gid):
        os.fchown(file, wanted.st_uid, wanted.st_gid)


def _no_lock(name: str, what: str) -> PermanentError:
    return PermanentError(
        ErrorKind.STORE,
        Text(
            "{name} is {what}, not a lock file of shop-poller; move it away and start again",
            name=name,
            what=what,
        ),
    )


def _is_named(file: int, name: str) -> bool:
    """Return whether an open file still has this name."""
    ours = os.fstat(file)
    try:
        theirs = os.lstat(name)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _check_owner(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the schema; 0 if the file is empty. Raises what `schema_of` raises."""
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    if owner != APPLICATION_ID and db.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()[0]:
        raise PermanentError(
            ErrorKind.STORE,
            Text("{path} is a database of another program; name another file in SHOP_STATE_URL", path=path),
        )
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise PermanentError(
            ErrorKind.STORE,
            Text(
                "{path} was written by a newer shop-poller (schema {version}, this one knows up to "
                "{newest}); install the newer one again",
                path=path,
                version=version,
                newest=len(MIGRATIONS),
            ),
        )
    return version


def _missing(path: Path) -> PermanentError:
    return PermanentError(
        ErrorKind.STORE, Text("{path}: no state yet; `shop-poller run` makes it", path=path)
    )


def _older(path: Path) -> PermanentError:
    return PermanentError(
        ErrorKind.STORE,
        Text(
            "{path} was written by an older shop-poller; start `shop-poller run` once, which "
            "brings it up to date",
            path=path,
        ),
    )


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = _check_owner(db, path)
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(db):
            for statement in script.read_text(encoding="utf-8").split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")
