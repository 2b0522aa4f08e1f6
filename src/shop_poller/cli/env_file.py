"""Writes `.env`: changes some settings, keeps all else as it is, and never leaves half a file."""

import io
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from dotenv import dotenv_values
from dotenv.parser import parse_stream

PLAIN = re.compile(r"[\w./:@%+=?&,~-][\w./:@%+=?&,~#-]*", re.ASCII)
"""Values without quotes: the same to shop-poller, Compose and `docker --env-file`."""
MODE = 0o600
BACKUP = ".bak"


def read(path: Path) -> tuple[str, dict[str, str]]:
    """Return the text of the file, and its settings by their names in lower case; both empty without a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return "", {}
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return text, {name.lower(): value for name, value in values.items() if value is not None}


def with_values(text: str, values: Mapping[str, str]) -> str:
    """Return the text of the file with some settings changed; comments and other settings stay.

    Args:
        text: of the file.
        values: by the names of the variables; the order is that of new lines.

    Raises:
        ValueError: a value contains a control character.
    """
    left = {name.lower(): f"{name}={quoted(value)}" for name, value in values.items()}
    written, known = list[str](), set(left)
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original.string
        name = (binding.key or "").lower()
        if binding.error or name not in known:
            written.append(original)
            continue
        line = original.lstrip()
        written.append(original[: len(original) - len(line)])
        if name in left:  # it may be there twice, and the last one would count
            written.append(left.pop(name) + ("\r\n" if line.endswith("\r\n") else "\n"))
    made = "".join(written)
    if left and made and not made.endswith(("\n", "\r")):
        made += "\n"
    return made + "".join(f"{line}\n" for line in left.values())


def quoted(value: str) -> str:
    """Return a value as the file contains it.

    Raises:
        ValueError: it contains a control character, such as the end of a line.
    """
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise ValueError("a value contains a control character")
    if not value or PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def save(path: Path, text: str) -> Path | None:
    """Replace the file at once, and keep the old one beside it; only the owner may read either.

    A symbolic link stays one. Ctrl-C waits until both files are in place.

    Args:
        path: of the file.
        text: its new content.

    Returns:
        The path of the old one; None if there was none.

    Raises:
        OSError: it cannot be written; the file is as it was.
        KeyboardInterrupt: Ctrl-C was pressed meanwhile; the file is written.
    """
    target = path.resolve()
    backup = target.with_name(target.name + BACKUP)
    made: list[Path] = []
    with _without_interruption():
        try:
            owner = target.stat() if target.exists() else None
            made.append(_temporary(target, text.encode(), owner))
            if owner is not None:
                made.append(_temporary(target, target.read_bytes(), owner))
                made[1].replace(backup)
            made[0].replace(target)
        finally:
            for left in made:
                left.unlink(missing_ok=True)
    return backup if owner is not None else None


def _temporary(target: Path, content: bytes, owner: os.stat_result | None) -> Path:
    """Write a file beside the target; mkstemp gives it the mode 0600."""
    descriptor, name = tempfile.mkstemp(prefix=f"{target.name}.", dir=target.parent)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            os.fchmod(descriptor, MODE)
            if owner is not None:  # root sets up what a service of another user reads
                with suppress(PermissionError):
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Delay Ctrl-C until the end of the context. A mask is not enough: other threads receive the signal."""
    came = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
