"""What every command shares: how it speaks, how it ends, how it reads its settings."""

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer

from shop_poller.roster import Roster, choose, load_shops
from shop_poller.settings import Settings


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

EARLIEST = 2000
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ"]
"""How instants may be written, the last as we write them."""
Since = Annotated[
    datetime, typer.Option("--since", formats=DATES, metavar="DATE", help="In UTC, e.g. 2026-11-01.")
]


class OutputError(Exception):
    """Standard output is full, or has lost its reader."""


class EnoughError(OutputError):
    """Whoever reads standard output (`head`) has read enough: of a mere list that is no failure."""


def load_settings(config: Path | None, shop: str | None = None, *, asks_shop: bool = True) -> Settings:
    """Load the settings of one shop, and set up logging as they say; for the rest see `load_roster`."""
    return choose(load_roster(config, asks_shop=asks_shop).shops, shop)


def load_roster(config: Path | None, *, asks_shop: bool = True) -> Roster:
    """Load the settings of all shops, and set up logging; without their keys where they are not asked."""
    # structlog would import it for coloured tracebacks, since typer brings it along: 5 MB that nobody needs.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # None means: cannot be imported
    # And httpx its own command line, with click.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from shop_poller.logs import set_up_logging  # noqa: PLC0415 - it is large

    roster = load_shops(config, asks_shop=asks_shop)
    secrets, first = {secret for shop in roster.shops for secret in shop.secrets}, roster.shops[0]
    set_up_logging(level=first.shop_log_level, style=first.shop_log_format, secrets=secrets)
    return roster


def say(line: str) -> None:
    """Print a line; raises OutputError, or EnoughError."""
    try:
        typer.echo(line)
    except OSError as error:
        discard(sys.stdout)
        kind = EnoughError if isinstance(error, BrokenPipeError) else OutputError
        raise kind(error.strerror) from error


def complain(line: str) -> None:
    """Tell a problem on standard error, if anybody listens."""
    with suppress(OSError):
        typer.echo(f"shop-poller: {line}", err=True)


def on_terminal() -> bool:
    """Whether somebody can be asked; without standard input (`<&-`) there is none at all."""
    return sys.stdin is not None and sys.stdin.isatty()


def agreed(question: str) -> bool:
    """Ask, if there is somebody on a terminal to be asked; not within an event loop, which takes Ctrl-C."""
    if not on_terminal():
        return True
    typer.echo(f"{question} [y/N]: ", nl=False, err=True)
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
