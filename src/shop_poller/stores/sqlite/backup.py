"""Copies a state file while it is in use, and restores a copy. A kill at any time leaves a whole state."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text
from shop_poller.stores.sqlite.file import (
    APPLICATION_ID,
    BUSY_TIMEOUT_S,
    MIGRATIONS,
    explain,
    keep_owner,
    open_as_it_is,
    open_empty,
    restoring,
    schema_of,
)

HEADER = b"SQLite format 3\0"
SIDE_FILES = ("-wal", "-shm", "-journal")
PAGES = 2_000
"""Pages copied between two reports of the progress: 8 MB."""
COPIED_BYTES = 2**20
MOST_SHOWN = 100
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
ShowProgress = Callable[[int, int], None]
"""Is called with the amount done, and the total."""


def copy_state(path: Path, target: Path, show: ShowProgress) -> None:
    """Copy a state file as it is at this moment. The process that writes to it is not blocked.

    Args:
        path: the path of the state file.
        target: an empty file, which becomes a database without a log beside it.
        show: is called after every step.

    Raises:
        PermanentError: STORE, there is no state, or it is damaged.
        sqlite3.Error, OSError: see `explain`.
    """
    with closing(open_as_it_is(path)) as source, closing(_connect(target)) as copy:
        source.execute("BEGIN")  # later commits do not restart the copy
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole at the end
        source.backup(copy, pages=PAGES, progress=lambda _, left, pages: show(pages - left, pages))
        copy.execute("PRAGMA journal_mode = DELETE")  # the copy is one file
        damage = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if damage != "ok":
        raise PermanentError(
            ErrorKind.STORE,
            Text(
                "state file {path}: it is damaged ({damage}); restore an older backup",
                path=path,
                damage=one_line(damage, MOST_SHOWN),
            ),
        )


def copy_database(source: Path, target: Path, to: BinaryIO) -> None:
    """Copy any database, including its log. It may be damaged, or not ours: see `verify`.

    Args:
        source: the database.
        target: an empty file.
        to: the same file, opened.

    Raises:
        PermanentError, sqlite3.Error, OSError: as `copy_state`.
    """
    if _size(Path(f"{source}-wal")):
        copy_state(source, target, lambda _done, _of: None)
    else:  # SQLite would try to create files beside it
        with source.open("rb") as content:
            shutil.copyfileobj(content, to, COPIED_BYTES)


def is_database(file: BinaryIO) -> bool:
    """Return whether an open file is an SQLite database, by its first bytes."""
    file.seek(0)
    return file.read(len(HEADER)) == HEADER


def verify(path: Path, name: Path) -> frozenset[str]:
    """Check that a database is a state that this version can use.

    Args:
        path: the path of the database.
        name: its name in messages.

    Returns:
        The ids of the shops in it.

    Raises:
        PermanentError: STORE, this version cannot use it.
    """
    try:
        with closing(_connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            db.execute("PRAGMA trusted_schema = OFF")
            version = schema_of(db, name)
            damage = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if damage != "ok":
                raise _bad(name, Text("is damaged ({damage})", damage=one_line(damage, MOST_SHOWN)))
            if not version or not _has_schema(db, version):
                raise _bad(name, Text("is a database, but not a state of shop-poller"))
            return frozenset(row[0] for row in db.execute("SELECT shop_id FROM shops"))
    except sqlite3.Error as error:
        raise _bad(name, Text("is damaged ({damage})", damage=one_line(str(error), MOST_SHOWN))) from error


def put_in_place(path: Path) -> None:
    """Replace the state by the file at `restoring`. The caller must have the lock.

    First the log of the old state is written into its file, which is then whole without it. Last, the new
    file takes its name. So a kill leaves either the old or the new state. Owner, group and mode do not
    change.

    Raises:
        PermanentError: STORE, another program has the file open, or it is not ours.
        OSError: the file cannot be written.
    """
    real = Path(os.path.realpath(path))
    new = restoring(path)
    like = real if real.exists() else real.parent
    mode = stat.S_IMODE(real.stat().st_mode) & 0o777 if real.exists() else 0o600
    with new.open("r+b") as file:
        try:
            keep_owner(file.fileno(), like)
        except PermissionError as error:
            raise PermanentError(
                ErrorKind.STORE,
                Text(
                    "state file {path}: belongs to another user; run this as that user, or as root", path=path
                ),
            ) from error
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    _fold_log(real, path)
    for ending in SIDE_FILES:  # they exist only if the old file was damaged
        Path(f"{real}{ending}").unlink(missing_ok=True)
    sync_directory(real.parent)
    new.replace(real)
    sync_directory(real.parent)


def sync_directory(path: Path) -> None:
    """Write the names in a directory to the disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems do not support it
            os.fsync(directory)
    finally:
        os.close(directory)


def _fold_log(real: Path, path: Path) -> None:
    """Write the log into the file, and remove the log. A damaged file stays as it is."""
    if not _size(real):
        return
    with real.open("rb") as file:
        if not is_database(file):
            raise PermanentError(
                ErrorKind.STORE, Text("state file {path}: not a database; move it away first", path=path)
            )
    try:
        with closing(_connect(real)) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                schema_of(db, path)  # raises, unless it is empty; a newer version's file may be replaced
            db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF not in DAMAGED:
            raise PermanentError(ErrorKind.STORE, explain(error, path)) from error


def _has_schema(db: sqlite3.Connection, version: int) -> bool:
    """Return whether the tables are those of this version of the schema."""
    names = "SELECT type, name FROM main.sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    found = set(db.execute(names))
    expected, _ = open_empty(Path(":memory:"))
    with closing(expected):
        ours = set(expected.execute(names))
    return found <= ours and (found == ours or version < len(MIGRATIONS)) and ("table", "shops") in found


def _connect(target: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(target, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=uri)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _bad(name: Path, why: str) -> PermanentError:
    return PermanentError(ErrorKind.STORE, Text("{name}: {why}; nothing was changed", name=name, why=why))
