"""What the tests run as forks (support.fork_server) does what the installed command does."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from support.commands import FAST, NO_FORK, PLAIN, environment, executed, forked
from support.site import Site

MEASURED = re.compile(r"[\d.,]+ (?=s\b|MB\b)")
"""Of the shop's answer and of the disk: other each time."""


LINES = (
    "",
    "--version",
    "walk",
    "dead",
    "completion bash",
    "dead list",
    "check",
    "run --once",
    "run --once --dry-run",
    "status",
)
ASKING = ("check", "run --once", "status")


@pytest.mark.parametrize(
    ("line", "extra"),
    [*((line, PLAIN) for line in LINES), *((line, FAST) for line in ASKING)],
    ids=[*LINES, *(f"{line}, fast" for line in ASKING)],
)
def test_a_fork_says_and_does_what_the_installed_command_does(
    site: Site, line: str, extra: dict[str, str]
) -> None:
    # At an interval of a second a slow start leaves no time for the sweep: an interval leaves it.
    site.settings |= {"SHOP_POLLING_INTERVAL": "60", **extra}
    whole = environment(site.home, site.environment())
    ends = []
    for run in (executed, forked):
        site.served.requests.clear()
        done = run(line.split(), home=site.home, whole=whole, within_s=60)
        requested = [(request.method, request.tool) for request in site.served.requests]
        said = MEASURED.sub("", done.stdout)
        ends.append((done.code, said, done.complaints, requested, site.state.exists()))
        shutil.rmtree(site.state.parent, ignore_errors=True)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("extra", [PLAIN, FAST], ids=["plain", "fast"])
def test_a_daemon_that_is_a_fork_does_what_the_installed_one_does(site: Site, extra: dict[str, str]) -> None:
    site.shop.create_order("processing")
    ends = []
    for before in (NO_FORK, ()):
        with site.daemon(before=before, SHOP_POLLING_INTERVAL="60", **extra) as daemon:
            daemon.wait_for("delivered")
            assert Path(f"/proc/{daemon.pid}/cwd").resolve() == site.home
            code = daemon.stop()
        logged = {(entry["level"], entry["event"]) for entry in daemon.log}
        ends.append((code, daemon.stdout, logged))
        shutil.rmtree(site.state.parent)
    assert ends[0] == ends[1]
    assert len(site.receiver.posts) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_how_a_daemon_that_is_a_fork_ended_is_told(site: Site, number: signal.Signals) -> None:
    with site.daemon() as daemon:
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(within_s=0)
        assert daemon.stop(number) == (-number if number == signal.SIGKILL else 0)
        assert (daemon.alive, daemon.wait()) == (False, daemon.process.returncode)


def test_a_fork_that_takes_too_long_is_killed_and_told(site: Site) -> None:
    whole = environment(site.home, site.environment())
    with pytest.raises(subprocess.TimeoutExpired):
        forked(["run"], home=site.home, whole=whole, within_s=2)
    assert site.once().code == 0, "the state is nobody's any more"
