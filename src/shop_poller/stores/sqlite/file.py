"""The file itself: opened by one writer, made and migrated when needed, explained when it fails."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shop_poller.core.errors import ErrorKind, PermanentError

APPLICATION_ID = 0x53504F4C  # "SPOL" in the file's header: this is ours
MIGRATIONS = sorted((Path(__file__).parent / "migrations").glob("*.sql"))
BUSY_TIMEOUT_S = 5.0
"""How long another process's lock is waited for: `status` and backups hold it for milliseconds."""

HINTS = {
    "full": "free some space, it then goes on by itself",
    "No space left": "free some space, it then goes on by itself",
    "readonly": "check who owns the file and whether the disk is mounted read-only",
    "Read-only": "the disk is mounted read-only; name a file elsewhere in SHOP_STATE_URL",
    "Permission denied": "check who owns the file and its directory",
    "unable to open": "check that its directory exists and who owns it",
    "disk I/O": "check the disk and its free space",
    "malformed": "the file is damaged: restore a backup, or move it away to start anew",
    "not a database": "name another file in SHOP_STATE_URL",
    "locked": "another program is writing to it, a backup or an sqlite3 shell; close that one",
}
OTHER_HINT = "check the path in SHOP_STATE_URL"


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, int]:
    """Open, create or migrate the file.

    Returns:
        The connection, and the lock's file descriptor, to be closed after it.

    Raises:
        PermanentError: STORE, in use by another process, not ours, or too new.
        sqlite3.Error, OSError: see `explain`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        # Buyers' first names are in it: for our eyes only.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with _connection(str(path)) as db:
            _check_owner(db, path)  # before a byte of it is changed
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before anything is sent
            _migrate(db, path)
    except BaseException:
        os.close(lock)
        raise
    return db, lock


def open_for_reading(path: Path) -> tuple[sqlite3.Connection, None]:
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


def open_to_follow(path: Path) -> tuple[sqlite3.Connection, None]:
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


def open_beside(path: Path) -> tuple[sqlite3.Connection, None]:
    """Open an existing file to write a little beside whoever polls; raises what `open_for_reading` raises."""
    if not path.exists():
        raise _missing(path)
    with _connection(f"{path.resolve().as_uri()}?mode=rw", uri=True) as db:
        version = _check_owner(db, path)
        if not version:
            raise _missing(path)
        if version < len(MIGRATIONS):
            raise _older(path)
        db.execute("PRAGMA synchronous = FULL")
    return db, None


def open_copy(path: Path) -> tuple[sqlite3.Connection, None]:
    """A copy in memory, empty if there is no file; raises what `open_for_reading` raises."""
    with _connection(":memory:") as db:
        if path.exists():
            with _connection(_read_only(path), uri=True) as original:
                _check_owner(original, path)
                original.backup(db)
                original.close()
        _migrate(db, path)
    return db, None


def open_empty(path: Path) -> tuple[sqlite3.Connection, None]:
    """Nothing yet, in memory."""
    with _connection(":memory:") as db:
        _migrate(db, path)
    return db, None


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
    hint = next((hint for part, hint in HINTS.items() if part in text), OTHER_HINT)
    return f"state file {path}: {text}; {hint}"


@contextmanager
def _connection(target: str, *, uri: bool = False) -> Iterator[sqlite3.Connection]:
    """A new connection, closed again if what is done with it at first fails."""
    db = sqlite3.connect(
        target,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are ours to begin
        check_same_thread=False,  # by one thread at a time; the stores of several shops share some
        uri=uri,
    )
    try:
        db.execute("PRAGMA temp_store = MEMORY")
        # Claims live in memory: those of a process that dies are void at once.
        db.execute("CREATE TEMP TABLE claimed (seq INTEGER PRIMARY KEY)")
        yield db
    except BaseException:
        db.close()
        raise


def _open_read_only(path: Path) -> tuple[sqlite3.Connection, int]:
    """An existing file, and its schema's version."""
    if not path.exists():
        raise _missing(path)
    with _connection(_read_only(path), uri=True) as db:
        version = _check_owner(db, path)
        if not version:  # made a moment ago, or by one that was killed in that moment
            raise _missing(path)
    return db, version


def _read_only(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


def _lock(path: Path) -> int:
    """Keep every other writer away; the kernel lets go of the lock however this process ends."""
    real = os.path.realpath(path)  # the same file by another name is the same file
    lock = os.open(f"{real}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        raise PermanentError(
            ErrorKind.STORE,
            f"{path} is in use by another shop-poller (process {holder}); stop that one first, or give this"
            " one a file of its own in SHOP_STATE_URL",
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


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
