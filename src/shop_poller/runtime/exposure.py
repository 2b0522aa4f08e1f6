"""Finds our files that other users of this machine can read or write: state, its directory, secrets."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shop_poller.config.settings import Settings
from shop_poller.core.translatable import Text

GROUP, OTHERS = 0o070, 0o007
READ, WRITE = 0o044, 0o022
SIDE_FILES = ("", "-wal", "-shm", "-journal", ".lock")
FROM_THE_HOST = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Secrets of a container: it has no other users, and we cannot choose the modes of these files."""
MOST_LINES = 10


@dataclass(frozen=True, slots=True)
class Exposed:
    """A file that others can read or write.

    Attributes:
        path: of the file or the directory.
        mode: its permissions.
        what: what others can do: "read", "write" or "read and write".
        advice: the command that corrects the permissions.
    """

    path: Path
    mode: int
    what: Text
    advice: str

    def text(self) -> Text:
        """Return what is wrong and how to correct it, in one line."""
        return Text(
            "others can {what} {path} (mode {mode:04o}): {advice}",
            what=self.what,
            path=self.path,
            mode=self.mode,
            advice=self.advice,
        )


def exposed(shops: Sequence[Settings], files: Iterable[Path]) -> list[Exposed]:
    """Return the state files of shops, and the files with settings, that others can read or write.

    Args:
        shops: their state may be a file.
        files: that contain settings or secrets.
    """
    found = [*_of_settings(files), *_of_states(shops)]
    return list(dict.fromkeys(found))


def summary(found: Sequence[Exposed]) -> list[Text]:
    """Return one line per file, up to MOST_LINES, and a line that counts the rest."""
    lines = [one.text() for one in found[:MOST_LINES]]
    if len(found) > MOST_LINES:
        lines.append(Text("others can read or write {count:,} more files", count=len(found) - MOST_LINES))
    return lines


def _of_settings(files: Iterable[Path]) -> Iterator[Exposed]:
    """Check the files with settings. The group may read them: this is how root gives them to a service."""
    for file in dict.fromkeys(files):
        if not any(Path(os.path.realpath(file)).is_relative_to(place) for place in FROM_THE_HOST):
            yield from _look(file, OTHERS | (GROUP & WRITE), "600")


def _of_states(shops: Sequence[Settings]) -> Iterator[Exposed]:
    directories: set[Path] = set()
    for shop in shops:
        if not isinstance(shop.state, Path):
            continue
        real = Path(os.path.realpath(shop.state))
        if real.parent not in directories:
            directories.add(real.parent)
            yield from _look(real.parent, OTHERS & (READ | WRITE) | (GROUP & WRITE), "700")
        for ending in SIDE_FILES:
            yield from _look(Path(f"{real}{ending}"), GROUP | OTHERS, "600")


def _look(path: Path, forbidden: int, wanted: str) -> Iterator[Exposed]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:  # the file is missing or not accessible: the code that opens it reports that
        return
    wrong = mode & forbidden
    if wrong & READ and wrong & WRITE:
        what = Text("read and write")
    else:
        what = Text("read") if wrong & READ else Text("write")
    if wrong & (READ | WRITE):
        yield Exposed(path, mode, what, f"chmod {wanted} {path}")
