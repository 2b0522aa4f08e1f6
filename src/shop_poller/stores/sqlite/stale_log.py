"""Finds out that a state file was replaced by hand while the log (-wal) of the file before lies beside it.

SQLite would carry that log over into the copy: the copy then has no effect, or is damaged. What the pair
looked like is noted in the lock file whenever the state file changed, as it does when a part of the log is
carried over.
"""

import os
from dataclasses import dataclass
from pathlib import Path

SLACK_NS = 5_000_000_000
"""A part of the log is carried over right after it is written. Killed between that and our note, the times of
the two are still that near."""
MOST_BYTES = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """What a state file and its log looked like.

    Attributes:
        boot: of the machine: after a power cut times may not be what they were.
        file: inode of the state file.
        log: inode of the log.
        changed_ns: when the state file was changed last, by its own stamp.
    """

    boot: str
    file: int
    log: int
    changed_ns: int

    def line(self) -> bytes:
        """As it stands in the lock file, behind the line with the process."""
        return f"{self.boot} {self.file} {self.log} {self.changed_ns:<20}\n".encode()


def boot_id() -> str:
    """Names the time since the machine was started; "" where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def has_stale_log(real: Path) -> bool:
    """Whether a state file has a log beside it that surely belongs to another file.

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
    """Write down what the pair looks like, behind the line with the process."""
    first = os.pread(lock, MOST_BYTES, 0).partition(b"\n")[0]
    os.pwrite(lock, pair.line(), len(first) + 1)
