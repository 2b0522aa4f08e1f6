"""Directories mounted for one command only: small disks, that can be filled up, and read-only ones."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SMALL = "size=12m"
MOUNTS, MAPPED = ("--mount",), ("--mount", "--user", "--map-root-user")


@cache
def _namespace() -> tuple[str, ...] | None:
    """The namespaces with which a command has mounts of its own, gone with it, or None if we may not."""
    for options in (MOUNTS, MAPPED):
        script = "mount -t tmpfs -o size=64k none /mnt && mount -o remount,ro /mnt"
        if shutil.which("unshare") and not subprocess.run(_unshared(options, script), check=False).returncode:
            return options
    return None


def _unshared(options: tuple[str, ...], script: str) -> list[str]:
    return ["unshare", *options, "--propagation", "private", "sh", "-ec", script]


def _script(script: str, directory: Path) -> list[str]:
    namespace = _namespace()
    if namespace is None:
        pytest.skip("this machine lets nobody mount; a file size limit stands in for a full disk")
    directory.mkdir(exist_ok=True)
    return _unshared(namespace, f"D={directory}; {script}")


def mounted(script: str, directory: Path) -> list[str]:
    """What to start a command with, so that it sees a directory as the script has mounted it."""
    return [*_script(f'{script}; exec "$@"', directory), "sh"]


@dataclass(frozen=True)
class SmallDisk:
    """A disk that outlives the commands that use it.

    Attributes:
        before: what to start a command with, so that it sees the disk.
        path: the disk, for us who do not.
    """

    before: list[str]
    path: Path

    @property
    def ballast(self) -> Path:
        """A file to fill it up with."""
        return self.path / "ballast"


@contextmanager
def small_disk(directory: Path) -> Iterator[SmallDisk]:
    """A directory that is alone on a small disk, until the block ends."""
    script = f"mount -t tmpfs -o {SMALL} none $D; echo mounted; exec sleep infinity"
    with subprocess.Popen(_script(script, directory), stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"mounted\n"
            user = ["--user", "--preserve-credentials"] if _namespace() == MAPPED else []
            before = ["nsenter", f"--target={holder.pid}", *user, "--mount"]
            yield SmallDisk(before, Path(f"/proc/{holder.pid}/root{directory}"))
        finally:
            holder.kill()


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
