"""The sink `console:`: one line per notification on standard output, for people."""

import asyncio
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Thread
from typing import Self

import anyio

from shop_poller.config.addresses import split
from shop_poller.config.sink_spelling import option_names
from shop_poller.config.sinks import NO_OPTIONS, SinkConfig, sink_name, take_options
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.plain_text import plain
from shop_poller.core.rich_message import RICH, RichMessage
from shop_poller.core.translatable import Text
from shop_poller.observability.output import write_all
from shop_poller.peer_errors import translated
from shop_poller.ports import Sink

MAX_ITEMS = 5
BLANKS = str.maketrans("\u00a0\u202f", "  ")
"""The blanks within amounts of money, by CLDR."""
MARKS = {"info": "+", "warning": "!", "error": "x", "critical": "X"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleConfig(SinkConfig):
    """Standard output."""

    prefixes = ("console:",)
    address_format = "console:"
    documented_as = "`console:`"
    delivers_by = "a line on standard output"
    is_for_people = True
    hides_buyer = True

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse an address; see `SinkConfig`."""
        parts = split(address)
        name = sink_name(parts.fragment, "console:")
        options, rest = take_options(parts.query, name=name, is_for_people=cls.is_for_people)
        if rest:
            *others, last = option_names(is_for_people=cls.is_for_people)
            raise ValueError(
                Text(
                    "{name} has an option that is not known; there are {others} and {last}",
                    name=name,
                    others=", ".join(others),
                    last=last,
                )
            )
        return cls(name=name, options=options)

    @property
    def prints_all(self) -> bool:
        """Whether it prints every notification at once: it has no filter, rate, quiet hours or groups."""
        return replace(self.options, locale=None, style="rich") == NO_OPTIONS

    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:  # noqa: ARG002 - needs neither
        """Make the sink."""
        return ConsoleSink(self)

    def shown(self, delivery: Delivery) -> str:
        """Return the line that is printed."""
        return render(delivery)


class LinePrinter:
    """Prints one line at a time on standard output. If the output blocks, only the printing task waits.

    Args:
        write: writes a line.
    """

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or _to_stdout
        self._write_lock = anyio.Lock()
        self._last: _Printing | None = None

    async def print(self, line: str) -> None:
        """Print one line. Raises whatever writing raises."""
        async with self._write_lock:
            if self._last is not None:  # its sender may have timed out while the output still blocks
                await self._last.done.wait()
            self._last = printing = _Printing(self._write, line)
            await printing.done.wait()
        if printing.error is not None:
            raise printing.error


class ConsoleSink:
    """Prints notifications, one line at a time. For the methods, see ports.Sink.

    Args:
        config: contains the name.
        write: writes a line.
    """

    def __init__(self, config: ConsoleConfig, *, write: Callable[[str], object] | None = None) -> None:
        self.name = config.name
        self._printer = LinePrinter(write)

    async def send(self, delivery: Delivery) -> None:
        """Print one line."""
        line = render(delivery)
        with translated(self.name, _cannot_print):  # starting a thread may fail too
            await self._printer.print(line)

    async def check(self) -> str:
        """Return a fixed text: nothing can be wrong here."""
        return Text("prints to standard output")

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


def _cannot_print(why: str) -> TemporaryError:
    return TemporaryError(ErrorKind.CONNECTION, Text("cannot print: {why}", why=why))


class _Printing:
    """A line that is being printed in a daemon thread.

    In a thread, because a paused terminal (Ctrl-S) or a pipe without a reader must not block the process. In
    a daemon thread, because it must not block the exit of the process either.
    """

    def __init__(self, write: Callable[[str], object], line: str) -> None:
        self.done = anyio.Event()
        self.error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        Thread(target=self._run, args=(write, line), name="console", daemon=True).start()

    def _run(self, write: Callable[[str], object], line: str) -> None:
        try:
            write(line)
        except BaseException as error:  # noqa: BLE001 - print() raises it again
            self.error = error
        with suppress(RuntimeError):  # the loop is closed: nothing waits for the line any more
            self._loop.call_soon_threadsafe(self.done.set)


def render(delivery: Delivery) -> str:
    """Return the line for a delivery: time, level, title, items, facts.

    The address of the order and what SHOP_BUYER_FIELDS names are left out: standard output may be a log.
    """
    notification = json.loads(delivery.body)
    at = datetime.fromisoformat(notification["created_at"]).astimezone()
    if RICH in notification:
        rich = RichMessage.of_json(notification[RICH])
        text = " | ".join((rich.title, *replace(rich, personal=()).with_items(MAX_ITEMS).lines))
    else:  # written by an earlier version
        customer = notification["data"].get("customer")
        text = (
            f"{notification['title']}: {notification['message']}{f' ({customer})' if customer else ''}"
            f"  [{delivery.event_type}]"
        )
    line = f"{at:%H:%M:%S} {MARKS.get(notification['level'], '*')} {text}"
    # A buyer's name must not move the cursor or forge a line. Blanks of amounts are not shown as such.
    return plain(line.translate(BLANKS), instead="�")


def _to_stdout(line: str) -> None:
    if sys.stdout is None:  # it was closed before the process started
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    # Bypasses Python's buffer: if a blocked thread held its lock, the interpreter could not exit cleanly.
    write_all(sys.stdout.fileno(), f"{line}\n".encode(sys.stdout.encoding, errors="replace"))
