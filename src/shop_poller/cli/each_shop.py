"""Runs a command for several shops at once, with progress on a terminal, and sums up what came of it."""

import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import typer

from shop_poller.cli.console import CommandError, Exit, OutputError, complain, say, say_lines
from shop_poller.cli.language import in_language
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.plain_text import plain
from shop_poller.core.translatable import Text, joined
from shop_poller.runtime.signals import run_until_signal

AT_ONCE = 20
"""How many shops are worked on at the same time, unless a command says otherwise."""
CLEAR_LINE = "\r\x1b[K"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShopOutcome(Generic[T]):
    """What came of a command for one shop.

    Attributes:
        shop: its id.
        result: of the command; None if it failed.
        problem: why it failed, in one line; "" if it did not.
        code: the exit code that it alone would have.
    """

    shop: str
    result: T | None
    problem: str = ""
    code: Exit = Exit.OK

    def failed(self) -> "ShopOutcome[Any]":
        """Return the same failure, as one of a command with other results."""
        return ShopOutcome(self.shop, None, self.problem, self.code)

    def error(self) -> dict[str, Any]:
        """Return the object of `--json` if it failed."""
        return {"shop": self.shop, "error": plain(self.problem)}


class _Progress:
    """How many shops are done: one line on standard error that is updated, if that is a terminal."""

    def __init__(self, whole: int) -> None:
        self._whole, self._done = whole, 0
        self._is_shown = whole > 1 and sys.stderr.isatty()

    def step(self) -> None:
        self._done += 1
        line = Text("{done:,} of {all:,} shops", done=self._done, all=self._whole)
        self._write(f"{CLEAR_LINE}{in_language(line)}")

    def clear(self) -> None:
        self._write(CLEAR_LINE)

    def _write(self, text: str) -> None:
        if self._is_shown:
            with suppress(OSError):
                sys.stderr.write(text)
                sys.stderr.flush()


async def for_each(
    shops: Sequence[Settings],
    work: Callable[[Settings], Awaitable[T]],
    show: Callable[[ShopOutcome[T]], None] | None = None,
    code_of: Callable[[T], Exit] | None = None,
    at_once: int = AT_ONCE,
) -> list[ShopOutcome[T]]:
    """Work on every shop, on some of them concurrently, also after one failed.

    Args:
        shops: in the order of the outcomes.
        work: on one shop.
        show: prints an outcome, as soon as it and those before it are there.
        code_of: the exit code of a result; without it every result is a success.
        at_once: how many shops are worked on at the same time.

    Raises:
        OutputError: standard output is full or closed.
    """
    outcomes: dict[int, ShopOutcome[T]] = {}
    unprinted: list[OutputError] = []
    progress, remaining, shown = _Progress(len(shops)), iter(enumerate(shops)), 0

    def show_ready() -> None:
        nonlocal shown
        while show is not None and (outcome := outcomes.get(shown)) is not None:
            progress.clear()
            show(outcome)
            shown += 1

    async def work_on_some(scope: anyio.CancelScope) -> None:
        for number, shop in remaining:
            try:
                outcomes[number] = await _outcome(shop, work, code_of)
                show_ready()
            except OutputError as error:  # raised later: the task group would wrap it
                unprinted.append(error)
                scope.cancel()
            progress.step()

    async with anyio.create_task_group() as tasks:
        for _ in range(min(at_once, len(shops))):
            tasks.start_soon(work_on_some, tasks.cancel_scope)
    progress.clear()
    if unprinted:
        raise unprinted[0]
    return [outcomes[number] for number in range(len(shops))]


async def _outcome(
    shop: Settings, work: Callable[[Settings], Awaitable[T]], code_of: Callable[[T], Exit] | None
) -> ShopOutcome[T]:
    try:
        result = await work(shop)
        return ShopOutcome(shop.shop, result, code=code_of(result) if code_of else Exit.OK)
    except ShopPollerError as error:
        code = Exit.STATE if error.kind is ErrorKind.STORE else Exit.SHOP
        return ShopOutcome(shop.shop, None, error.text, code)
    except CommandError as error:
        return ShopOutcome(shop.shop, None, error.text, error.code)
    except SettingsError as error:
        return ShopOutcome(shop.shop, None, joined("; ", error.problems), Exit.SETTINGS)


def run_each(
    shops: Sequence[Settings],
    work: Callable[[Settings], Awaitable[T]],
    show: Callable[[ShopOutcome[T]], None] | None = None,
    code_of: Callable[[T], Exit] | None = None,
    at_once: int = AT_ONCE,
) -> list[ShopOutcome[T]]:
    """Do what `for_each` does, in an event loop of its own. SIGTERM and SIGHUP cancel it."""
    return run_until_signal(partial(for_each, shops, work, show, code_of, at_once))


def complain_of(outcomes: Sequence[ShopOutcome[Any]]) -> None:
    """Print one line per shop for which the command failed."""
    for outcome in outcomes:
        if outcome.problem:
            complain(Text("{shop}: {problem}", shop=outcome.shop, problem=outcome.problem))


def column(shops: Sequence[str]) -> Callable[[str, str], str]:
    """Return a function that puts the id of a shop before a line, in a column that is wide enough for all."""
    width = max(map(len, shops), default=0)

    def with_shop(shop: str, line: str) -> str:
        return joined("  ", [shop.ljust(width), line])

    return with_shop


def summary(outcomes: Sequence[ShopOutcome[Any]], *totals: str) -> str:
    """Return the last line: how many shops, how many failed, and what the command adds to that."""
    failed = sum(outcome.code is not Exit.OK for outcome in outcomes)
    counted = Text("{count:,} shops, {failed:,} failed", count=len(outcomes), failed=failed)
    if len(outcomes) == 1:
        counted = Text("{count:,} shop, {failed:,} failed", count=1, failed=failed)
    return joined("; ", [counted, *totals])


def exit_with_worst(codes: Sequence[Exit]) -> None:
    """End the command if a shop failed, with the lowest exit code of those that did.

    Raises:
        typer.Exit: one failed.
    """
    if failed := [code for code in codes if code is not Exit.OK]:
        raise typer.Exit(min(failed))


def say_document(found: object) -> None:
    """Print one JSON document; raises what `say` raises."""
    say_lines(json.dumps(found, ensure_ascii=False, indent=2))


def as_document(
    outcomes: Sequence[ShopOutcome[T]], of_result: Callable[[T], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the document of `--json` for several shops: an object for each, or why it failed."""
    return list(_objects(outcomes, of_result))


def _objects(
    outcomes: Sequence[ShopOutcome[T]], of_result: Callable[[T], Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for outcome in outcomes:
        if outcome.result is None:
            yield outcome.error()
        else:
            yield {"shop": outcome.shop, **of_result(outcome.result)}


def finish(outcomes: Sequence[ShopOutcome[Any]], *totals: str) -> None:
    """Print the problems and the summary, and end the command with the worst exit code.

    Raises:
        typer.Exit: a shop failed.
    """
    complain_of(outcomes)
    say(summary(outcomes, *totals))
    exit_with_worst([outcome.code for outcome in outcomes])
