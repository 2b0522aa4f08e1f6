"""Notifies systemd (sd_notify): READY, STOPPING, and the watchdog.

The watchdog depends on the progress of the event loop only, never on the shop's health: an outage of the
shop must not restart us.
"""

import os
import socket
from contextlib import suppress

import anyio


def notify(state: str) -> None:
    """Send a state, e.g. "READY=1". Do nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace
        address = "\0" + address[1:]
    # If systemd does not listen, continue to watch the shop.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.settimeout(0)  # do not block if systemd does not read
        to.connect(address)
        to.send(state.encode())


async def feed_watchdog() -> None:
    """Notify the watchdog that the loop is alive, twice as often as systemd requires (WATCHDOG_USEC)."""
    try:
        interval_s = int(os.environ.get("WATCHDOG_USEC", "")) / 1_000_000
    except ValueError:
        return
    if interval_s <= 0:
        return
    while True:
        notify("WATCHDOG=1")
        await anyio.sleep(interval_s / 2)
