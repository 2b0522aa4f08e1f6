"""Signals to the real commands: which stop them in order, which mean nothing, what a lost terminal sends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from shop_poller.simulator import faults
from support.commands import COMMAND, FAST, PATIENCE_S, PLAIN, environment, wait_until
from support.site import Site

MEANINGLESS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGTTOU)
WITH_SIGHUP_IGNORED = ("/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
"""As `nohup` starts it."""


@pytest.mark.parametrize("extra", [PLAIN, FAST], ids=["plain", "fast"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_fleet_stops_in_order(site: Site, number: signal.Signals, extra: dict[str, str]) -> None:
    site.name_shops({"honey": site.served.url, "tea": site.served.url})
    with site.start("run", "--config", "shops.toml", **extra) as daemon:
        daemon.wait_for("started")
        site.polled(2)
        assert daemon.stop(number) == 0
    assert daemon.log[-1]["event"] == "stopped"
    assert site.served.endpoint.sessions.of(site.served.key.user) == []


def test_what_means_nothing_to_it_does_not_end_it(site: Site) -> None:
    with site.daemon() as daemon:
        for number in MEANINGLESS:
            daemon.send(number)
        site.polled(2)
        assert daemon.alive
    assert daemon.log[-1]["event"] == "stopped"


def test_under_nohup_a_hang_up_does_not_end_it(site: Site) -> None:
    with site.daemon(before=WITH_SIGHUP_IGNORED) as daemon:
        site.polled()
        daemon.send(signal.SIGHUP)
        site.polled(2)
        assert daemon.alive
        assert daemon.logged("stopping; undelivered notifications wait in the outbox") == []


def test_a_terminal_that_is_closed_stops_it_in_order_however_many_hang_ups_come(site: Site) -> None:
    """The shell sends one, and the kernel another one when the shell has gone."""
    master, slave = os.openpty()
    site.receiver.answer = site.receiver.slowly(1)
    order = site.shop.create_order("processing")
    process = subprocess.Popen(
        [COMMAND, "run"],
        cwd=site.home,
        env=environment(site.home, site.environment()),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    try:
        os.close(slave)
        wait_until(lambda: site.receiver.posts, "a notification that is under way")
        os.close(master)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: not takes(process.pid, signal.SIGTERM), "the first signal's effect")
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait(PATIENCE_S)
    assert site.served.endpoint.sessions.of(site.served.key.user) == []
    assert site.receiver.story(order) == ["new"]
    assert site.once().code == 0
    assert site.receiver.story(order) == ["new"], "the attempt under way was finished, and recorded"


def takes(pid: int, number: signal.Signals) -> bool:
    """Whether a handler of the process's own takes this signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["audit", "backfill", "run --once"])
def test_a_command_that_is_ended_closes_what_it_has_open(
    site: Site, command: str, number: signal.Signals
) -> None:
    assert site.once().code == 0
    args = command.split() if command.startswith("run") else [command, "--since", "2026-01-01"]
    site.served.requests.clear()
    site.served.faults.add(faults.slow(3600), method="tools/call")
    with site.start(*args) as running:
        wait_until(lambda: any(request.tool for request in site.served.requests), "a request that hangs")
        site.served.faults.clear()
        assert running.stop(number) == 128 + number
    assert "Traceback" not in running.stderr
    assert site.served.endpoint.sessions.of(site.served.key.user) == []
    assert site.once().code == 0


@pytest.mark.parametrize("command", ["run", "status"])
def test_ctrl_c_while_it_is_still_imported_ends_a_command_without_a_traceback(
    site: Site, tmp_path: Path, command: str
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    begun = slow / "begun"
    (slow / "typer.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    )
    with site.start(command, PYTHONPATH=str(slow)) as running:
        wait_until(begun.exists, "the import of a slow library")
        assert running.stop(signal.SIGINT) == -signal.SIGINT
        assert running.stderr == ""
        assert not site.state.exists()


def test_ctrl_c_is_pythons_again_once_a_command_works(site: Site) -> None:
    assert site.once().code == 0
    site.served.requests.clear()
    site.served.faults.add(faults.slow(3600), method="tools/call")
    with site.start("audit", "--since", "2026-01-01") as running:
        wait_until(lambda: any(request.tool for request in site.served.requests), "a request that hangs")
        site.served.faults.clear()
        assert running.stop(signal.SIGINT) in {1, 130}
    assert "Traceback" not in running.stderr
    assert site.served.endpoint.sessions.of(site.served.key.user) == []
