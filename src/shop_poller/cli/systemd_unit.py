"""The systemd service: its files, and the obstacles to running it."""

import difflib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from shop_poller.core.translatable import Text

UNIT = Path("/etc/systemd/system/shop-poller.service")
BACK_OFF = UNIT.with_name("shop-poller.service.d") / "back-off.conf"
SETTINGS = Path("/etc/shop-poller/shop-poller.env")
CREDENTIALS = Path("/etc/shop-poller/credentials")
TEMPLATE_COMMAND = "/opt/shop-poller/bin/shop-poller"
BACK_OFF_SINCE = 254
"""The first version of systemd with RestartSteps."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - nothing is written there
"""Directories that the service cannot see: ProtectHome and PrivateTmp."""
PLAIN = re.compile(r"[\w./+@-]+", re.ASCII)
SHARED = {
    "User", "DynamicUser", "StateDirectory", "StateDirectoryMode", "UMask", "WorkingDirectory", "Environment",
    "EnvironmentFile", "LoadCredential", "LoadCredentialEncrypted", "SetCredential",
}  # fmt: skip
"""The options of the unit that a command needs to find the service's settings, keys and state."""


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file of the service.

    Attributes:
        path: absolute.
        text: its content.
        mode: its permissions.
        yours: whether the user edits it; then an existing file is never overwritten.
    """

    path: Path
    text: str
    mode: int = 0o644
    yours: bool = False

    def diff(self, root: Path) -> list[str] | None:
        """Return the lines that writing it would change; None if the file does not exist.

        Raises:
            OSError: it cannot be read.
        """
        path = below(root, self.path)
        if not path.exists():
            return None
        there = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return list(difflib.unified_diff(there, self.text.splitlines(), str(path), "new", lineterm=""))

    def write(self, root: Path) -> None:
        """Replace the file in one step: a reader sees the old content or the new.

        Raises:
            OSError: it cannot be written.
        """
        path = below(root, self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(self.text, encoding="utf-8")
        temporary.chmod(self.mode)
        temporary.replace(path)


def below(root: Path, path: Path) -> Path:
    """Return an absolute path, moved below a directory that stands for the root."""
    return root / path.relative_to("/")


def unit(command: Path) -> str:
    """The unit file that starts this command."""
    return _template("shop-poller.service").replace(TEMPLATE_COMMAND, str(command))


def service_files(command: Path, version: int) -> list[ServiceFile]:
    """The files of the service, for a version of systemd."""
    back_off = [ServiceFile(BACK_OFF, _template("back-off.conf"))] if version >= BACK_OFF_SINCE else []
    settings = ServiceFile(SETTINGS, _template("shop-poller.env"), mode=0o640, yours=True)
    return [ServiceFile(UNIT, unit(command)), *back_off, settings]


def credentials() -> list[str]:
    """The names of the credentials that the unit loads."""
    return re.findall(r"^LoadCredential=([\w.]+):", _template("shop-poller.service"), re.MULTILINE)


def own_command() -> Path:
    """Return the path of the running command, for the service to start."""
    called = Path(sys.argv[0])
    return (called if called.name == "shop-poller" else Path(sys.prefix, "bin", "shop-poller")).resolve()


def obstacles(command: Path) -> Iterator[str]:
    """Yield the obstacles to the service, a sandbox with another user, executing a command."""
    if not PLAIN.fullmatch(str(command)):
        yield Text(
            "{command} has characters with a special meaning in unit files; install it in {place}",
            command=command,
            place=_advice(),
        )
    for path in dict.fromkeys((command, Path(sys.executable).resolve(), Path(__file__).resolve())):
        home = next((home for home in HIDDEN if path.is_relative_to(home)), None)
        if home is not None:
            yield Text(
                "{path} is in {directory}, which the service cannot see; install it in {place}",
                path=path,
                directory=home,
                place=_advice(),
            )
            continue
        closed = [part for part in (path, *path.parents) if part.exists() and not _open(part)]
        if closed:
            yield Text("the user of the service may not read {path}: chmod -R o+rX {path}", path=closed[-1])


def _advice() -> str:
    return Text(
        "/opt: make wheel && sudo python3 -m venv /opt/shop-poller &&"
        " sudo /opt/shop-poller/bin/pip install -c constraints.txt dist/*.whl"
        " (with the system's Python, such as /usr/bin/python3)"
    )


def _open(path: Path) -> bool:
    """Return whether other users may pass through a directory, or read a file."""
    return bool(path.stat().st_mode & (stat.S_IXOTH if path.is_dir() else stat.S_IROTH))


def systemd_version() -> int:
    """Return the version of systemd; 0 if there is none."""
    try:
        done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return 0
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else 0


def installed_unit() -> str:
    """Return the unit that systemd has loaded, with its drop-ins; empty if there is none.

    Raises:
        OSError: there is no systemd.
    """
    command = ["systemctl", "cat", "--no-pager", UNIT.name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a constant


def as_service(unit_text: str, command: list[str], *, terminal: bool) -> list[str]:
    """Return the command line that runs a command with the service's user, state, settings and keys.

    Args:
        unit_text: of the unit and its drop-ins.
        command: with its arguments.
        terminal: whether to run it on this terminal; else with pipes.
    """
    lines = [line.strip() for line in unit_text.splitlines()]
    shared = [f"--property={line}" for line in lines if line.partition("=")[0] in SHARED]
    how = ["--quiet", "--wait", "--collect", "--pty" if terminal else "--pipe"]
    return ["systemd-run", *how, *shared, "--", *command]


def become(command: list[str]) -> None:
    """Replace this process by another command.

    Raises:
        OSError: the command does not exist.
    """
    os.execvp(command[0], command)  # noqa: S606 - intended


def _template(name: str) -> str:
    return files("shop_poller").joinpath("units", name).read_text(encoding="utf-8")
