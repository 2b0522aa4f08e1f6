"""The file of a backup: an uncompressed tar with one member per shop, which is verified before it is used.

- `shops/000001.db`, …: the state of a shop, a SQLite database; or `.redis` with one line of JSON per key
- `manifest.json`: format, kind, schema, version, time of the backup, the shop of each member
- `SHA256SUMS`: one line per member, for `sha256sum -c`; missing or wrong if the file was cut off

It is not compressed, so that no member can be larger than the file.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text

FORMAT = 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
MOST_TEXT_BYTES = 16 * 2**20
"""The maximum size of the manifest or the checksums: enough for 10,000 shops."""
MOST_MEMBERS = 10_002
BLOCK = 2**20
MOST_SHOWN = 100
NOT_A_BACKUP = Text("is not a backup of shop-poller, or is incomplete")
USE_ANOTHER = Text("use another backup")
GZIP = b"\x1f\x8b"
SHOP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}")
ENDINGS = {"sqlite": "db", "redis": "redis"}
FIRST = re.compile(rb"shops/000001\.(db|redis)\x00")
"""The name of the first member."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a backup.

    Attributes:
        kind: "sqlite" or "redis".
        schema: the version of the layout of its states.
        version: of the shop-poller that wrote it.
        shops: the name of the member of each shop, by the shop's id.
    """

    kind: str
    schema: int
    version: str
    shops: Mapping[str, str]


class BadBackupError(PermanentError):
    """A file is not a backup, or is incomplete.

    Args:
        path: of the file.
        why: what is wrong with it.
        advice: what to do.
    """

    def __init__(self, path: Path, why: str, advice: str = USE_ANOTHER) -> None:
        text = Text("{path}: {why}; nothing was changed; {advice}", path=path, why=why, advice=advice)
        super().__init__(ErrorKind.STORE, text)


class ArchiveWriter:
    """Writes a backup to a stream.

    Args:
        stream: written sequentially.
        kind: "sqlite" or "redis".
        schema: the version of the layout of the states.
        version: of this shop-poller.
        now: the time of the backup.
    """

    def __init__(self, stream: IO[bytes], *, kind: str, schema: int, version: str, now: datetime) -> None:
        # tarfile's own mode for pipes leaves a traceback when the pipe breaks.
        counted = cast("IO[bytes]", _CountingStream(stream))
        self._tar = tarfile.open(fileobj=counted, mode="w:", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - see finish
        self._kind, self._schema, self._version, self._now = kind, schema, version, now
        self._names: dict[str, str] = {}
        self._sums: list[str] = []

    def add(self, shop: str, content: BinaryIO) -> None:
        """Add the state of a shop: the whole content of an open file.

        Raises:
            OSError: the stream cannot be written.
        """
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        name, reader = f"shops/{len(self._names) + 1:06}.{ENDINGS[self._kind]}", _Summing(content)
        self._tar.addfile(self._info(name, size), reader)
        self._names[shop] = name
        self._sums.append(f"{reader.hexdigest()}  {name}\n")

    def finish(self) -> None:
        """Write the end; a file without it is not a backup.

        Raises:
            OSError: the stream cannot be written.
        """
        manifest = {
            "format": FORMAT,
            "kind": self._kind,
            "schema": self._schema,
            "version": self._version,
            "created_at": self._now.isoformat(timespec="seconds"),
            "shops": self._names,
        }
        self._add_bytes(MANIFEST, json.dumps(manifest, indent=1).encode())
        self._add_bytes(SUMS, "".join(self._sums).encode())
        self._tar.close()

    def _add_bytes(self, name: str, content: bytes) -> None:
        self._tar.addfile(self._info(name, len(content)), io.BytesIO(content))
        if name != SUMS:
            self._sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")

    def _info(self, name: str, size: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(self._now.timestamp())
        return info


class ArchiveReader:
    """Reads a backup; `reading` opens one.

    Args:
        path: for messages.
        tar: the open file.
        size: of the file.
    """

    def __init__(self, path: Path, tar: tarfile.TarFile, size: int) -> None:
        self._path, self._tar, self._size = path, tar, size
        with self._named_errors():
            self._members = self._read_members()
            self._sums = self._read_sums()
            self.manifest = self._read_manifest()
        for shop, name in self.manifest.shops.items():
            if name not in self._sums or name not in self._members:
                why = Text("is incomplete: the state of shop {shop} is missing", shop=shop)
                raise BadBackupError(path, why)

    def size(self, shop: str) -> int:
        """Return the size of a shop's state in bytes."""
        return self._members[self.manifest.shops[shop]].size

    def extract(self, shop: str, to: BinaryIO) -> None:
        """Copy the state of a shop to an open file.

        Raises:
            BadBackupError: it is damaged.
            OSError: the other file cannot be written.
        """
        name = self.manifest.shops[shop]
        with self._named_errors():
            content = self._tar.extractfile(self._members[name])
            if content is None:
                raise BadBackupError(self._path, NOT_A_BACKUP)
        reader = _Summing(content)
        while block := self._read(reader):
            to.write(block)
        if reader.hexdigest() != self._sums[name]:
            raise BadBackupError(
                self._path,
                Text("the state of shop {shop} in it is damaged (its checksum is wrong)", shop=shop),
            )

    def _read(self, reader: "_Summing") -> bytes:
        with self._named_errors():
            return reader.read(BLOCK)

    def _read_members(self) -> dict[str, tarfile.TarInfo]:
        members: dict[str, tarfile.TarInfo] = {}
        while (info := self._tar.next()) is not None:
            # A sparse member is larger than its data in the file; a link leads elsewhere.
            if not info.isreg() or info.issparse() or info.size > self._size or info.name in members:
                raise BadBackupError(self._path, NOT_A_BACKUP)
            members[info.name] = info
            if len(members) > MOST_MEMBERS:
                raise BadBackupError(self._path, NOT_A_BACKUP)
        return members

    def _read_manifest(self) -> Manifest:
        text = self._text(MANIFEST)
        try:
            found: dict[str, Any] = json.loads(text)
            number = found["format"]
            shops = {str(shop): str(name) for shop, name in found["shops"].items()}
            version = one_line(str(found["version"]), MOST_SHOWN)
            manifest = Manifest(str(found["kind"]), int(found["schema"]), version, shops)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadBackupError(self._path, NOT_A_BACKUP) from error
        if not all(SHOP_ID.fullmatch(shop) for shop in shops):
            raise BadBackupError(self._path, Text("contains an invalid shop id"))
        if number != FORMAT or manifest.kind not in ENDINGS:
            raise BadBackupError(
                self._path,
                Text("was made by another version of shop-poller ({version})", version=manifest.version),
                Text("install that version"),
            )
        return manifest

    def _read_sums(self) -> dict[str, str]:
        if SUMS not in self._members:
            raise BadBackupError(self._path, Text("is incomplete: its end is missing"))
        lines = self._text(SUMS).split("\n")
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        if hashlib.sha256(self._text(MANIFEST).encode()).hexdigest() != sums.get(MANIFEST):
            raise BadBackupError(self._path, Text("its manifest is damaged (its checksum is wrong)"))
        return sums

    def _text(self, name: str) -> str:
        content = self._tar.extractfile(self._members[name]) if name in self._members else None
        if content is None or self._members[name].size > MOST_TEXT_BYTES:
            raise BadBackupError(self._path, NOT_A_BACKUP)
        return content.read().decode()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, EOFError, UnicodeDecodeError, ValueError, OverflowError) as error:
            raise BadBackupError(self._path, NOT_A_BACKUP) from error


def is_backup(path: Path) -> bool:
    """Return whether a file begins like a backup, or is empty.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    return not head or (FIRST.match(head) is not None and head[257:262] == tarfile.GNU_MAGIC[:5])


@contextmanager
def reading(path: Path) -> Iterator[ArchiveReader]:
    """Open a backup and read its manifest.

    Raises:
        BadBackupError: it is not a backup, or is incomplete.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        is_compressed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        if is_compressed:
            raise BadBackupError(path, Text("is compressed"), Text("decompress it first, e.g. with gunzip"))
        with _tar(path, file) as tar:
            yield ArchiveReader(path, tar, os.fstat(file.fileno()).st_size)


@contextmanager
def _tar(path: Path, file: BinaryIO) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(fileobj=file, mode="r:", tarinfo=_PlainMember)  # noqa: SIM115 - closed below
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BadBackupError(path, NOT_A_BACKUP) from error
    with tar:
        yield tar


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to read it: opening a pipe could hang.

    Raises:
        BadBackupError: it is not a regular file.
        OSError: it cannot be opened.
    """
    if path.exists() and not path.is_file():
        raise BadBackupError(path, Text("is not a regular file"), Text("name the file that `backup` wrote"))
    with path.open("rb") as file:
        yield file


class _PlainMember(tarfile.TarInfo):
    """A plain header. Extended headers may have any size, and would be read into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise tarfile.ReadError("not a plain member")
        plain: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc] # not in typeshed
        return plain


class _CountingStream:
    """Counts the bytes written to a stream, because a pipe has no position."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0

    def write(self, block: bytes) -> int:
        self._stream.write(block)
        self._position += len(block)
        return len(block)

    def tell(self) -> int:
        return self._position


class _Summing(io.RawIOBase):
    """Reads a file, and computes the checksum of the read bytes."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._sum = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self._sum.update(block)
        return block

    def hexdigest(self) -> str:
        return self._sum.hexdigest()
