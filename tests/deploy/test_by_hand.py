"""The service without systemd: the unit's command, started as systemd would start it.

One test follows docs/start.md word by word, on a machine of its own as far as mounts can make one: changes to
/etc are gone afterwards, /opt and /usr/local/bin are empty at first.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shop_poller.cli import systemd_unit
from shop_poller.simulator.keys import DEMO_KEY
from support.commands import started, wait_until
from support.site import Site, site_at

ROOT = Path(__file__).parents[2]
PYTHON = Path("/usr/bin/python3")
READY = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
UNSHARED = ("/usr/bin/unshare", "--mount", "--propagation", "private", "bash", "-euc")
START = (ROOT / "docs/start.md").read_text(encoding="utf-8")
MACHINE = """
mount -t tmpfs none /opt
mount -t tmpfs none /usr/local/bin
mount -t tmpfs none "$1"
mkdir "$1/up" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/up,workdir=$1/work" none /etc
sudo() { "$@"; }
systemd-ask-password() { case "$1" in *_KEY:) echo "$KEY";; *_SECRET:) echo "$SECRET";; esac; }
"""
LOOK = """
stat -c '%a %n' /etc/shop-poller/credentials/*
grep ExecStart /etc/systemd/system/shop-poller.service
set -a; . /etc/shop-poller/shop-poller.env; set +a
export CREDENTIALS_DIRECTORY=/etc/shop-poller/credentials STATE_DIRECTORY="$1"
shop-poller check
"""


def steps(*numbers: int) -> str:
    """What docs/start.md says to type in these steps."""
    sections = re.split(r"^## (?=\d)", START, flags=re.MULTILINE)
    wanted = [section for section in sections if section.partition(".")[0] in map(str, numbers)]
    assert len(wanted) == len(numbers)
    return "\n".join(re.findall(r"^    (.*)$", "\n".join(wanted), re.MULTILINE)) + "\n"


def fit(python: Path) -> bool:
    """Whether it can make environments for us, and we can make a machine for it."""
    able = ([str(python), "-c", READY], [*UNSHARED, "mount -t tmpfs none /opt"])
    return not any(subprocess.run(command, capture_output=True, check=False).returncode for command in able)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path) as open_site:
        yield open_site


@contextmanager
def systemd(path: Path) -> Iterator[socket.socket]:
    """A socket as systemd gives one to be notified over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(30)
        yield listening


def test_started_as_systemd_starts_it_it_polls_delivers_and_says_how_it_goes(site: Site) -> None:
    """With keys from credentials, settings from the environment, state where it is told, and a watchdog."""
    credentials = site.home / "credentials"
    credentials.mkdir()
    for name in systemd_unit.credentials():
        (credentials / name).write_text("\n")  # as SetCredential has it
    (credentials / "WOOCOMMERCE_CONSUMER_KEY").write_text(DEMO_KEY.consumer_key + "\n")
    (credentials / "WOOCOMMERCE_CONSUMER_SECRET").write_text(DEMO_KEY.consumer_secret + "\n")
    (credentials / "SHOP_NOTIFY_URLS").write_text(site.receiver.url + "#crm\n")
    state = site.home / "state"
    state.mkdir()
    (words,) = re.findall(r"^ExecStart=\S+ (.+)$", systemd_unit.unit(Path("/bin/true")), re.MULTILINE)
    site.shop.create_order("processing")
    with systemd(site.home / "notify") as told:
        env = {
            "WOOCOMMERCE_MCP_URL": site.served.url,
            "SHOP_HTTP_LISTEN": "127.0.0.1:0",
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(state),
            "NOTIFY_SOCKET": str(site.home / "notify"),
            "WATCHDOG_USEC": "60000000",
        }
        with started(words.split(), home=site.home, env=env) as running:
            assert {told.recv(100), told.recv(100)} == {b"READY=1", b"WATCHDOG=1"}
            wait_until(lambda: site.receiver.taken, "a notification")
            running.send(signal.SIGTERM)
            assert told.recv(100) == b"STOPPING=1"
            assert running.wait() == 0
    assert (state / "shop-poller.db").exists()
    assert DEMO_KEY.consumer_secret not in running.stderr


def allowed() -> set[str]:
    """The system calls that the unit allows, as this machine's systemd understands it."""
    done = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True)  # noqa: S607
    groups: dict[str, set[str]] = {}
    for line in filter(None, done.stdout.splitlines()):
        if line.startswith("@"):
            group = groups.setdefault(line.strip(), set())
        elif not line.strip().startswith("#"):
            group.add(line.strip())

    def calls(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {call for one in groups[name] for call in calls(one)}

    found = set(calls("@default"))
    for names in re.findall(r"^SystemCallFilter=(.+)$", systemd_unit.unit(Path("/bin/true")), re.MULTILINE):
        named = {call for name in names.lstrip("~").split() for call in calls(name)}
        found = found - named if names.startswith("~") else found | named
    return found


@pytest.mark.soak
def test_it_makes_no_system_call_that_the_unit_forbids(site: Site) -> None:
    """And has no memory that is both written and executed, which MemoryDenyWriteExecute forbids."""
    if not shutil.which("strace") or not shutil.which("systemd-analyze"):
        pytest.skip("needs strace and systemd-analyze")
    trace = site.home / "trace"
    with site.daemon(before=["strace", "-D", "-f", "-qq", "-o", str(trace)]) as running:
        order = site.shop.create_order("processing")
        wait_until(lambda: site.receiver.story(order), "a notification")
        assert running.get("/metrics").status_code == 200
    text = wait_until(lambda: trace.read_text(errors="replace"), "a trace")
    made = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert len(made) > 40
    of_root = {"fchown"} if os.geteuid() == 0 else set()  # SQLite's, and the service is not root
    assert made - of_root <= allowed()
    assert "PROT_WRITE|PROT_EXEC" not in text
    assert not re.findall(r"mprotect\(.*PROT_EXEC", text)


def test_the_readmes_begin_as_the_page_does() -> None:
    for readme in ("README.md", "README.ru.md"):
        lines = re.findall(
            r"^    (sudo .+|make wheel)$", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE
        )
        assert "\n".join(lines) + "\n" == steps(2, 3)


def test_the_page_names_what_is_written() -> None:
    for path in (systemd_unit.UNIT, systemd_unit.SETTINGS, systemd_unit.CREDENTIALS):
        assert f"`{path}`" in START
    assert set(re.findall(rf"{systemd_unit.CREDENTIALS}/([\w.]*\w)", START)) <= set(
        systemd_unit.credentials()
    )
    assert systemd_unit.TEMPLATE_COMMAND in START


@pytest.mark.package
def test_following_the_page_word_by_word_gives_a_service_that_is_right(site: Site) -> None:
    if os.geteuid() != 0 or not PYTHON.exists() or not fit(PYTHON):
        pytest.skip("needs root that may mount, and a /usr/bin/python3 of 3.11 or later with venv")
    typed = steps(2, 3, 4)
    for shown, meant in (
        ("https://shop.example/wp-json/woocommerce/mcp", site.served.url),
        ("https://crm.example/hooks/orders#crm", f"{site.receiver.url}#crm"),
    ):
        assert shown in typed
        typed = typed.replace(shown, meant)
    place = site.home / "machine"
    place.mkdir()
    done = subprocess.run(
        [*UNSHARED, MACHINE + typed + LOOK, "bash", place],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(site.home),
            "KEY": DEMO_KEY.consumer_key,
            "SECRET": DEMO_KEY.consumer_secret,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    for name in ("WOOCOMMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_SECRET", "SHOP_NOTIFY_URLS"):
        assert f"600 {systemd_unit.CREDENTIALS}/{name}" in told
    assert f"ExecStart={systemd_unit.TEMPLATE_COMMAND} run" in told
    assert f"written         {systemd_unit.UNIT}" in told
    checked = [line for line in told if line.startswith(("ok  ", "FAIL"))]
    assert len(checked) > 3
    assert not [line for line in checked if not line.startswith("ok  ")]
