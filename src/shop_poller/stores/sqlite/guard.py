"""Detects that another program deleted, replaced or truncated the files of an open state.

SQLite continues to write into a file that has no name any more, without an error. All of that is lost when
the process ends.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from shop_poller.core.translatable import Text
from shop_poller.stores.sqlite.stale_log import Pair, boot_id, note

GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""The errors of `stat` for a missing file. Any other error says nothing about the file."""


class FileGuard:
    """Remembers the identity of the files of a state when they were opened.

    Args:
        path: the path of the state file, as it was opened.
        lock: the descriptor of the lock file; None if the state was opened without the lock.
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        real = os.path.realpath(path)
        names = {"": str(path), "-wal": f"{real}-wal", "-shm": f"{real}-shm"}
        found = {name: _identity(file) for name, file in names.items()}
        self._files = {names[name]: identity for name, identity in found.items() if identity is not None}
        if lock is not None:
            about = os.fstat(lock)
            self._files[f"{real}.lock"] = about.st_dev, about.st_ino
        self._path = path
        self._least_bytes = 0
        self._lock = lock
        log = found["-wal"]
        self._log_number = log[1] if log is not None else 0
        self._boot = boot_id() if lock is not None else ""
        self._noted_ns = 0
        self.note_change()

    def note_change(self) -> None:
        """Write the time of the file's last change to the lock file, if it changed; see `stale_log`."""
        if self._lock is None or not self._boot or not self._log_number:
            return
        with suppress(OSError):  # such as a full disk: then there is no note, or an old one
            about = os.stat(self._path)  # noqa: PTH116 - as below
            if about.st_mtime_ns != self._noted_ns:
                pair = Pair(self._boot, about.st_ino, self._log_number, about.st_mtime_ns)
                note(self._lock, pair)
                self._noted_ns = about.st_mtime_ns

    def problem(self) -> str | None:
        """Return in one line what happened to the files; None if nothing did."""
        for file, identity in self._files.items():
            try:
                about = os.stat(file)  # noqa: PTH116 - it runs with every commit
            except OSError as error:
                if error.errno in GONE:
                    return self._line(file, Text("was deleted"))
                continue
            if (about.st_dev, about.st_ino) != identity:
                return self._line(file, Text("was replaced by another file"))
            if file == str(self._path):
                if about.st_size < self._least_bytes:  # we never make it shorter
                    return self._line(file, Text("was truncated"))
                self._least_bytes = about.st_size
        return None

    def _line(self, file: str, what: str) -> str:
        return Text(
            "state file {path}: {file} {what} while it was open; nothing is written to it any more. Restart"
            " shop-poller to use the present file (`shop-poller restore` restores a backup)",
            path=self._path,
            file=file,
            what=what,
        )


def _identity(file: str) -> tuple[int, int] | None:
    try:
        about = os.stat(file)  # noqa: PTH116 - as above
    except OSError:
        return None
    return about.st_dev, about.st_ino
