"""What every command shares: how it speaks, how it ends, how it reads its settings."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer
from typer.core import TyperGroup

from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig, choose, load_shops
from shop_poller.core.masking import SHORT
from shop_poller.core.plain_text import plain
from shop_poller.core.showing import is_harmless, shown


class Exit(IntEnum):
    """What went wrong, as an exit code; README.md lists them."""

    OK = 0
    INTERNAL = 1  # Python's own, for an exception that nobody caught: a bug
    SETTINGS = 2  # click's own, for a command line that is wrong
    SHOP = 3
    UNDELIVERED = 4
    STATE = 5
    MISSED = 6


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="A TOML file of settings. The environment goes before it."),
]

ShopId = Annotated[
    str | None, typer.Option("--shop", metavar="ID", help="Which one, where the file has [[shops]].")
]
SinkName = Annotated[str | None, typer.Option("--sink", metavar="NAME", help="Only of this sink.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

CUT_SHORT = 141
"""The exit code of a command whose reader went away before its end, as shells show SIGPIPE."""
EARLIEST = 2000
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ"]
"""How instants may be written, the last as we write them."""
Since = Annotated[
    datetime, typer.Option("--since", formats=DATES, metavar="DATE", help="In UTC, e.g. 2026-11-01.")
]


USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""What each error of a command line is; typer has no name of its own for it."""


class Commands(TyperGroup):
    """The command line, whose errors quote no secret that was pasted into it."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options of the program itself."""
        with _discreet():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read those of a command, and run it."""
        with _discreet():
            return super().invoke(ctx)


@contextmanager
def _discreet() -> Iterator[None]:
    try:
        yield
    except USAGE_ERROR as error:
        said: str = error.message
        given = {part for argument in sys.argv[1:] for part in (argument, *argument.split("="))}
        for word in sorted(given, key=len, reverse=True):
            if len(word) >= SHORT and word in said and not is_harmless(word.lstrip("-"), is_name=True):
                said = said.replace(repr(word), shown(word)).replace(word, shown(word))
        error.message = said
        raise


class OutputError(OSError):
    """Standard output is full, or closed."""


class EnoughError(OutputError):
    """Whoever reads standard output (`head`) has read enough: of a mere list that is no failure."""


class StandardOutput:
    """Standard output of a command: what cannot be written is one of the two errors, whoever writes it.

    Args:
        stream: the real one; None if it was closed before we started.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._closed = stream is None
        self._stream = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for ever

    def write(self, text: str) -> int:
        """Write; raises OutputError, or EnoughError."""
        if self._closed:
            raise OutputError("standard output is closed")
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self.failed(error) from error

    def flush(self) -> None:
        """Flush; raises what `write` raises."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self.failed(error) from error

    def fileno(self) -> int:
        """The descriptor.

        Raises:
            OSError: there is none.
        """
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def failed(self, error: OSError) -> OutputError:
        """Give up what is still to be written; returns the error to raise."""
        if self._closed:
            return OutputError("standard output is closed")
        discard(self._stream)
        return EnoughError() if isinstance(error, BrokenPipeError) else OutputError(error.strerror)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def set_up_output() -> StandardOutput:
    """Make `StandardOutput` standard output; descriptors that are closed are occupied in `__main__`."""
    output = StandardOutput(sys.stdout)
    sys.stdout = cast("TextIO", output)
    return output


def standard_output() -> StandardOutput:
    """What `set_up_output` made."""
    return cast("StandardOutput", sys.stdout)


def load_settings(config: Path | None, shop: str | None = None, *, asks_shop: bool = True) -> Settings:
    """Load the settings of one shop, and set up logging as they say; for the rest see `load_shops_config`."""
    return choose(load_shops_config(config, asks_shop=asks_shop).shops, shop)


def load_shops_config(config: Path | None, *, asks_shop: bool = True) -> ShopsConfig:
    """Load the settings of all shops, and set up logging; without their keys where they are not asked."""
    # structlog would import it for coloured tracebacks, since typer brings it along: 5 MB that nobody needs.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # None means: cannot be imported
    # And httpx its own command line, with click.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from shop_poller.observability.logging import set_up_logging  # noqa: PLC0415 - it is large

    shops_config = load_shops(config, asks_shop=asks_shop)
    secrets, first = {secret for shop in shops_config.shops for secret in shop.secrets}, shops_config.shops[0]
    set_up_logging(level=first.shop_log_level, style=first.shop_log_format, secrets=secrets)
    return shops_config


def say(line: str) -> None:
    """Print a line, whatever is in it, see core/plain_text.py; raises OutputError, or EnoughError."""
    typer.echo(plain(line))


def say_lines(text: str) -> None:
    """Print a text of ours that has several lines; raises what `say` raises."""
    typer.echo("\n".join(map(plain, text.split("\n"))))


def complain(line: str) -> None:
    """Tell a problem on standard error, if anybody listens."""
    with suppress(OSError):
        typer.echo(f"shop-poller: {plain(line)}", err=True)


def on_terminal() -> bool:
    """Whether somebody can be asked; without standard input (`<&-`) there is none at all."""
    return sys.stdin is not None and sys.stdin.isatty()


def agreed(question: str) -> bool:
    """Ask, if there is somebody on a terminal to be asked; not within an event loop, which takes Ctrl-C."""
    if not on_terminal():
        return True
    typer.echo(f"{plain(question)} [y/N]: ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def utc(since: datetime) -> datetime:
    """What `--since` says, aware.

    Raises:
        BadParameter: that cannot be meant.
    """
    at = since.replace(tzinfo=UTC)
    if at.year < EARLIEST:
        raise typer.BadParameter(f"is before {EARLIEST}, when there was no such shop", param_hint="--since")
    if at > datetime.now(UTC):
        raise typer.BadParameter("is in the future", param_hint="--since")
    return at


def discard(stream: TextIO) -> None:
    """Whatever is left in its buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
