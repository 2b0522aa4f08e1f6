"""Shared code of the commands: options, exit codes, output, and the loading of settings."""

import errno
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from shop_poller.cli.language import in_language, use_language
from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig, choose, load_shops
from shop_poller.core.plain_text import plain
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text
from shop_poller.ports import Store

PROGRAM, COMPLETE_VARIABLE = "shop-poller", "_SHOP_POLLER_COMPLETE"


class Exit(IntEnum):
    """The exit codes; docs/commands.md lists them."""

    OK = 0
    INTERNAL = 1  # Python's own, for an uncaught exception: a bug
    SETTINGS = 2  # click's own, for a wrong command line
    SHOP = 3
    UNDELIVERED = 4
    STATE = 5
    MISSED = 6


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="A TOML file with settings. The environment overrides it."),
]

ShopId = Annotated[
    str | None, typer.Option("--shop", metavar="ID", help="Which shop, if the file has [[shops]].")
]
SinkName = Annotated[str | None, typer.Option("--sink", metavar="NAME", help="Only this sink.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON object per line.")]
AsDocument = Annotated[
    bool, typer.Option("--json", help="For programs: one JSON object, or a list of several shops.")
]

CUT_SHORT = 141
"""The exit code when the reader of standard output has closed it, as shells show SIGPIPE."""
EARLIEST = 2000
YES_WORDS = frozenset({"y", "yes", "д", "да"})
"""Answers that agree, in every language."""
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ"]
"""The formats of an instant; the last one is the format that we print."""
Since = Annotated[
    datetime,
    typer.Option("--since", formats=DATES, metavar="DATE", help="A date or time in UTC, e.g. 2026-11-01."),
]

make_app = partial(typer.Typer, add_completion=False, rich_markup_mode=None)
"""What declares commands, without the extras of typer that slow down every start."""


class CommandError(Exception):
    """A command cannot do what it was asked to do.

    Attributes:
        text: why, and what to do, in one line; it can be shown in another language.
        code: the exit code.
    """

    def __init__(self, text: str, code: Exit = Exit.SETTINGS) -> None:
        super().__init__(text)
        self.text, self.code = text, code


class OutputError(OSError):
    """Standard output is full or closed."""


class EnoughError(OutputError):
    """The reader of standard output (`head`) has closed it; no failure for a command that only lists."""


class StandardOutput:
    """Standard output of a command. A failed write raises one of the two errors, also in library code.

    Args:
        stream: the real stream; None if it was closed before the process started.
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
        """Return the descriptor.

        Raises:
            OSError: there is none.
        """
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def failed(self, error: OSError) -> OutputError:
        """Discard unwritten output, and return the error to raise."""
        if self._closed:
            return OutputError("standard output is closed")
        discard(self._stream)
        return EnoughError() if isinstance(error, BrokenPipeError) else OutputError(error.strerror)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def set_up_output() -> StandardOutput:
    """Replace `sys.stdout` by a `StandardOutput`. `__main__` has opened the closed descriptors before."""
    output = StandardOutput(sys.stdout)
    sys.stdout = cast("TextIO", output)
    return output


def standard_output() -> StandardOutput:
    """Return the result of `set_up_output`."""
    return cast("StandardOutput", sys.stdout)


def load_settings(config: Path | None, shop: str | None = None, *, needs_shop_keys: bool = True) -> Settings:
    """Load the settings of one shop; see `load_shops_config`."""
    return choose(load_shops_config(config, needs_shop_keys=needs_shop_keys).shops, shop)


def load_chosen_shops(config: Path | None, shop: str | None) -> Sequence[Settings]:
    """Load the settings of one shop, or of all if none is named; does not need their keys."""
    shops = load_shops_config(config, needs_shop_keys=False).shops
    return shops if shop is None else [choose(shops, shop)]


def _sinks_on_the_terminal(shops: Sequence[Settings]) -> frozenset[str]:
    """Return the sinks that print all notifications on this terminal; none if a shop has no such sink."""
    if sys.stdout is None or not sys.stdout.isatty():
        return frozenset()
    found = [{sink.name for sink in shop.sinks if sink.prints_all} for shop in shops]
    return frozenset().union(*found) if all(found) else frozenset()


def load_shops_config(config: Path | None, *, needs_shop_keys: bool = True) -> ShopsConfig:
    """Load the settings of all shops, and set up logging.

    Args:
        config: the file of `--config`.
        needs_shop_keys: whether the command sends requests to the shops; else their keys may be missing.
    """
    skip_unneeded_modules()
    from shop_poller.observability.logging import set_up_logging  # noqa: PLC0415 - it is large
    from shop_poller.sinks.registry import parse_sink  # noqa: PLC0415 - as above

    shops_config = load_shops(config, needs_shop_keys=needs_shop_keys, parse_sink=parse_sink)
    secrets, first = {secret for shop in shops_config.shops for secret in shop.secrets}, shops_config.shops[0]
    set_up_logging(
        level=first.shop_log_level,
        style=first.shop_log_format,
        secrets=secrets,
        printing=_sinks_on_the_terminal(shops_config.shops),
    )
    if "shop_locale" in first.model_fields_set:
        use_language(first.shop_locale)
    return shops_config


def skip_unneeded_modules() -> None:
    """Keep libraries from importing what no command needs: 5 MB of `rich`, and the command line of httpx.

    structlog imports `rich` if it finds it, and typer depends on it.
    """
    for name in ("rich", "httpx._main"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # None means: cannot be imported


def say(line: str) -> None:
    """Print a line in the language in use, made harmless by core/plain_text.py.

    Raises:
        OutputError, EnoughError: standard output is full or closed.
    """
    typer.echo(plain(in_language(line)))


def say_lines(text: str) -> None:
    """Print several lines; raises what `say` raises."""
    typer.echo("\n".join(map(plain, text.split("\n"))))


def complain(line: str) -> None:
    """Print a problem on standard error, if it can be written."""
    with suppress(OSError):
        typer.echo(f"shop-poller: {plain(in_language(line))}", err=True)


def refused(problem: str, code: Exit = Exit.SETTINGS) -> typer.Exit:
    """Print a problem, and return the exit to raise."""
    complain(problem)
    return typer.Exit(code)


def unknown_sink(name: str, known: Iterable[str]) -> typer.Exit:
    """Print that no sink has a name, and return the exit to raise."""
    return refused(
        Text(
            "no sink is named {name} in the settings; known sinks: {known}",
            name=shown(name, is_name=True),
            known=", ".join(known),
        )
    )


def on_terminal() -> bool:
    """Return whether a question can be asked; after `<&-` there is no standard input at all."""
    return sys.stdin is not None and sys.stdin.isatty()


def agreed(question: str) -> bool:
    """Ask on a terminal; without one the answer is yes. Not for use in an event loop, which takes Ctrl-C."""
    if not on_terminal():
        return True
    line = Text("{question} [y/N]: ", question=question)
    typer.echo(plain(in_language(line)), nl=False, err=True)
    return sys.stdin.readline().strip().lower() in YES_WORDS


def utc(since: datetime) -> datetime:
    """Return the value of `--since`, in UTC.

    Raises:
        BadParameter: it is too early, or in the future.
    """
    at = since.replace(tzinfo=UTC)
    if at.year < EARLIEST:
        raise typer.BadParameter(Text("is before {year}", year=EARLIEST), param_hint="--since")
    if at > datetime.now(UTC):
        raise typer.BadParameter(Text("is in the future"), param_hint="--since")
    return at


def discard(stream: TextIO) -> None:
    """Redirect a stream, with the rest of its buffer, to /dev/null."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@asynccontextmanager
async def store_of(settings: Settings, open_store: Callable[..., Awaitable[Store]]) -> AsyncIterator[Store]:
    """Open the store of a shop with a function of shop_poller.stores, and close it at the end.

    Raises:
        PermanentError, TemporaryError: STORE, see that function.
    """
    store = await open_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store):
        yield store
