"""Detects that a state file was replaced by hand while the log (-wal) of the former file is still beside it.

SQLite would write that log into the copy. The copy would then have no effect, or be damaged. Whenever the
state file changes, the lock file gets a note of what the pair looks like. The state file changes when SQLite
checkpoints a part of the log.
"""

import os
from dataclasses import dataclass
from pathlib import Path

SLACK_NS = 5_000_000_000
"""A part of the log is checkpointed right after it is written. If the process is killed between the
checkpoint and our note, the times of the two files differ by less than this."""
MOST_BYTES = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """What a state file and its log looked like.

    Attributes:
        boot: the id of the machine's boot. After a power cut the times of files may differ.
        file: the inode of the state file.
        log: the inode of the log.
        changed_ns: the modification time of the state file.
    """

    boot: str
    file: int
    log: int
    changed_ns: int

    def line(self) -> bytes:
        """Return the line for the lock file, after the line with the process."""
        return f"{self.boot} {self.file} {self.log} {self.changed_ns:<20}\n".encode()


def boot_id() -> str:
    """Return the id of the machine's boot; "" where the system does not provide it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def has_stale_log(real: Path) -> bool:
    """Return whether the log beside a state file surely belongs to another file.

    Args:
        real: the state file, not a link to it.
    """
    noted = _noted(Path(f"{real}.lock"))
    if noted is None or noted.boot != boot_id():
        return False
    try:
        file, log = real.stat(), Path(f"{real}-wal").stat()
    except OSError:
        return False
    if not log.st_size or log.st_ino != noted.log:  # the pair was copied as a whole
        return False
    if file.st_ino != noted.file:
        return True
    return file.st_mtime_ns != noted.changed_ns and abs(file.st_mtime_ns - log.st_mtime_ns) > SLACK_NS


def _noted(lock: Path) -> Pair | None:
    try:
        if lock.is_symlink() or not lock.is_file():
            return None
        with lock.open("rb") as file:
            _, _, rest = file.read(MOST_BYTES).decode().partition("\n")
        boot, number, log, changed_ns = rest.split()
        return Pair(boot, int(number), int(log), int(changed_ns))
    except (OSError, ValueError):
        return None


def note(lock: int, pair: Pair) -> None:
    """Write what the pair looks like to the lock file, after the line with the process."""
    first = os.pread(lock, MOST_BYTES, 0).partition(b"\n")[0]
    os.pwrite(lock, pair.line(), len(first) + 1)
