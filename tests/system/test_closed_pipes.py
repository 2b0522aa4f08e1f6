"""Every command, where nobody reads what it prints, where it cannot print, and without standard output."""

import os
import subprocess
from threading import Event, Thread

import pytest

from support.commands import COMMAND, Finished, environment, run_command
from support.site import Site

SINCE = "2026-01-01"
LISTS = (
    "--help",
    "--version",
    "status --help",
    "dead --help",
    "status",
    "status --json",
    "status --watch",
    "preview",
    "dead list",
    "dead show 3",
    "deliveries list",
    "deliveries show 3",
    "deliveries tail",
    "shops list",
    "completion bash",
    "install-service --print",
    "demo",
)
"""Whoever has read enough of these has all that was wanted: 0."""
NO_DAEMON = ("status", "status --json")
"""Their exit code says that none runs."""
OTHERS = (
    "check",
    "notify-test",
    f"audit --since {SINCE}",
    f"audit --since {SINCE} --json",
    f"backfill --since {SINCE}",
    f"replay --since {SINCE} --dry-run",
    "dead replay 1",
    "dead drop 2",
    "shops check",
    "run --once",
)
OF_EACH_KIND = ("--help", "status", "dead list", "completion bash", "check", "run --once")
"""Those that are installed processes here."""


@pytest.fixture
def used(site: Site) -> Site:
    """A shop with dead letters, deliveries, and something new; the sink's name is crm."""
    site.settings["SHOP_NOTIFY_URLS"] = f"{site.receiver.url}#crm"
    site.receiver.answer = lambda _: 422
    for _ in range(8):
        site.shop.create_order("processing")
    assert site.once().code == 4
    site.receiver.answer = lambda _: 200
    for _ in range(3):
        site.shop.create_order("processing")
    assert site.once().code == 0
    site.shop.create_order("processing")
    return site


def ended(site: Site, args: str, stdout: int) -> tuple[int, list[str]]:
    """The exit code of a command that prints there, and what it complained of."""
    done = run_command(args.split(), home=site.home, env=site.environment(), stdout=stdout)
    return done.code, done.complaints


def ended_without_output(site: Site, args: str) -> tuple[int, list[str]]:
    """The same of one that has no standard output at all, which a fork of the tests cannot be without."""
    done = subprocess.run(
        [COMMAND, *args.split()],
        env=environment(site.home, site.environment()),
        cwd=site.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: os.close(1),
        timeout=60,
        check=False,
    )
    return done.returncode, Finished(done.returncode, "", done.stderr.decode()).complaints


def test_a_reader_that_is_gone_ends_a_command_quietly(used: Site) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        found = {args: ended(used, args, writer) for args in (*LISTS, *OTHERS, "backup -")}
    finally:
        os.close(writer)
    assert {args: (code, []) for args, (code, _) in found.items()} == found
    assert {args: code for args, (code, _) in found.items()} == {
        args: (3 if args in NO_DAEMON else 0) if args in LISTS else 141 for args in found
    }


def test_a_reader_that_leaves_in_the_middle_sees_no_traceback(used: Site) -> None:
    """As `check | head -3`: what is open is closed in order."""
    used.settings["SHOP_NOTIFY_URLS"] = f"console: {used.receiver.url}#crm console:#log"
    reader, writer = os.pipe()
    left = Event()
    used.receiver.answer = lambda _: 200 if left.wait(60) else None

    def read() -> None:
        with os.fdopen(reader) as output:
            while "console" not in output.readline():
                pass
        left.set()

    head = Thread(target=read)
    head.start()
    try:
        done = run_command(["notify-test"], home=used.home, env=used.environment(), stdout=writer)
    finally:
        os.close(writer)
        head.join()
    assert (done.code, done.stderr) == (141, "")


def test_output_that_is_full_is_one_line(used: Site) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        found = {args: ended(used, args, full) for args in (*LISTS, *OTHERS)}
    finally:
        os.close(full)
    said = (4, ["shop-poller: cannot print: No space left on device"])
    assert found == dict.fromkeys(found, said)


def test_output_that_is_closed_is_one_line(used: Site) -> None:
    found = {args: ended_without_output(used, args) for args in OF_EACH_KIND}
    said = (4, ["shop-poller: cannot print: standard output is closed"])
    assert found == dict.fromkeys(found, said)


def test_a_backup_that_cannot_be_printed_is_one_line(used: Site) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, complaints = ended(used, "backup -", full)
    finally:
        os.close(full)
    said = "shop-poller: the backup cannot be written: standard output: No space left on device"
    assert (code, complaints) == (4, [said])
    code, complaints = ended_without_output(used, "backup -")
    said = "shop-poller: the backup cannot be written: standard output: Bad file descriptor"
    assert (code, complaints) == (4, [said])


@pytest.mark.parametrize("where", ["pipe", "full"])
def test_healthy_tells_by_its_exit_code_whoever_reads(used: Site, where: str) -> None:
    with used.daemon() as daemon:
        listens = daemon.http.removeprefix("http://")
        reader, writer = os.pipe()
        os.close(reader)
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            args = f"healthy --listen {listens}"
            assert ended(used, args, writer if where == "pipe" else full) == (0, [])
        finally:
            os.close(writer)
            os.close(full)


def test_a_state_file_never_gets_the_number_of_a_descriptor_that_was_closed(used: Site) -> None:
    """What is printed would go into it."""

    def close_both() -> None:
        os.closerange(0, 2)

    before = used.status()["known_orders"]
    done = subprocess.run(
        [COMMAND, "run", "--once"],
        env=environment(used.home, used.environment()),
        cwd=used.home,
        preexec_fn=close_both,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert used.status()["known_orders"] == before + 1
