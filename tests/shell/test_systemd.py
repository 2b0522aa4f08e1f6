"""What systemd is told, over a socket as it gives one."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from shop_poller.runtime.systemd import feed_watchdog, notify


class FakeSystemd:
    """Listens where NOTIFY_SOCKET says.

    Args:
        address: a path, or a name in the abstract namespace that begins with "@".
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)  # noqa: FBT003 - the standard library's

    def told(self) -> list[str]:
        """What it was told since the last time, a datagram each."""
        states = []
        with suppress(BlockingIOError):
            while True:
                states.append(self.socket.recv(4096).decode())
        return states


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeSystemd]:
    path = str(tmp_path / "notify")
    listening = FakeSystemd(
        path if request.param == "path" else f"@shop-poller-test-{os.getpid()}-{tmp_path}"
    )
    monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    yield listening
    listening.socket.close()


@pytest.mark.parametrize("state", ["READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=магазин\nREADY=1"])
def test_a_state_is_one_datagram(systemd: FakeSystemd, state: str) -> None:
    notify(state)

    assert systemd.told() == [state]


def test_states_arrive_in_their_order(systemd: FakeSystemd) -> None:
    for state in ("READY=1", "WATCHDOG=1", "STOPPING=1"):
        notify(state)

    assert systemd.told() == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("address", [None, ""])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify("READY=1")


@pytest.mark.parametrize(
    "address",
    ["nowhere", "@shop-poller-nobody-listens-here", "file", "relative/path", "vsock:2:1234", "x" * 200, "@"],
)
def test_a_socket_where_nobody_listens_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    (tmp_path / "file").write_text("no socket")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "NOTIFY_SOCKET", str(tmp_path / address) if address in {"nowhere", "file"} else address
    )

    notify("READY=1")


def test_nor_is_one_whose_listener_has_gone(systemd: FakeSystemd) -> None:
    systemd.socket.close()

    notify("READY=1")


def test_nor_is_one_that_does_not_read(systemd: FakeSystemd) -> None:
    began = time.monotonic()
    for _ in range(1000):  # more than a socket holds
        notify("WATCHDOG=1")

    assert time.monotonic() - began < 5
    assert set(systemd.told()) == {"WATCHDOG=1"}
    notify("READY=1")
    assert systemd.told() == ["READY=1"]


def test_no_socket_is_left_open(systemd: FakeSystemd) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the directory's own descriptor counts alike

    notify("READY=1")
    before = open_files()
    for _ in range(5):
        notify("WATCHDOG=1")
    systemd.socket.close()
    for _ in range(5):
        notify("WATCHDOG=1")

    assert open_files() == before - 1


# --- The watchdog, in virtual time --------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(("usec", "half_s"), [("30000000", 15.0), ("1000000", 0.5), ("3000001", 1.5000005)])
async def test_the_watchdog_is_fed_twice_as_often_as_it_wants(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, usec: str, half_s: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed_watchdog)
        await anyio.sleep(half_s / 10)
        assert systemd.told() == ["WATCHDOG=1"]  # at once

        for _ in range(100):
            await anyio.sleep(half_s * 0.8)
            assert systemd.told() == []
            await anyio.sleep(half_s * 0.2)
            assert systemd.told() == ["WATCHDOG=1"]
        tasks.cancel_scope.cancel()

    await anyio.sleep(10 * half_s)
    assert systemd.told() == []


@pytest.mark.anyio
@pytest.mark.parametrize("usec", [None, "", "0", "-1000000", "soon", "1.5"])
async def test_without_a_watchdog_nothing_is_fed(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, usec: str | None
) -> None:
    if usec is not None:
        monkeypatch.setenv("WATCHDOG_USEC", usec)

    with anyio.fail_after(1):
        await feed_watchdog()  # ends

    assert systemd.told() == []


@pytest.mark.anyio
async def test_a_loop_that_hangs_does_not_feed(systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is the loop's own progress that feeds, no thread and no timer of the kernel's.
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed_watchdog)
        await anyio.sleep(0.001)
        assert systemd.told() == ["WATCHDOG=1"]
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        assert systemd.told() == []
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_dead_socket_does_not_end_the_feeding(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed_watchdog)
        await anyio.sleep(10.5)
        monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
        await anyio.sleep(2)
        tasks.cancel_scope.cancel()

    assert systemd.told() == ["WATCHDOG=1"] * 2
