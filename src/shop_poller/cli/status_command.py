"""The command `status`: one shop in full, or one line for each of several."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from enum import IntEnum
from typing import Annotated

import anyio
import typer

from shop_poller.cli.chosen_shops import ChosenShops, EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import AsDocument, Config, EnoughError, Exit, make_app, say
from shop_poller.cli.each_shop import (
    ShopOutcome,
    as_document,
    column,
    exit_with_worst,
    for_each,
    run_each,
    say_document,
    summary,
)
from shop_poller.cli.status import Status, read_status, render
from shop_poller.clock import now
from shop_poller.core.clocks import described
from shop_poller.core.errors import TemporaryError
from shop_poller.core.translatable import Text, joined

WATCH_EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[2J"
"""Clears a terminal."""

app = make_app()


class Severity(IntEnum):
    """How a shop is, the worst first."""

    FAILED = 0  # not watched, not polled, or its state cannot be read
    NOTABLE = 1  # dead letters, or an alert
    WELL = 2


@app.command(
    epilog="""\b
Examples:
  shop-poller status
  shop-poller status --json
  shop-poller status --watch
  shop-poller status --all
Exit codes: 2 settings; 3 no daemon watches the shop, or its polls fail; 5 state file; the
lowest of several shops."""
)
def status(
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsDocument = False,
    watch: Annotated[bool, typer.Option("--watch", help="Update every 2 s, until Ctrl-C.")] = False,
) -> None:
    """Show the state of polling and deliveries; of several shops one line per shop, the worst first."""
    if watch and as_json:
        raise typer.BadParameter(Text("does not go with --json"), param_hint="--watch")
    chosen = load_chosen(config, shop, tag, all_shops=all_shops)
    if watch:
        with suppress(KeyboardInterrupt, EnoughError):
            anyio.run(_watch, chosen)
        return
    if not chosen.is_list:
        _show_one(anyio.run(read_status, chosen.only), as_json=as_json)
        return
    outcomes = sorted(run_each(chosen.shops, read_status, code_of=_code), key=_rank)
    with suppress(EnoughError):
        if as_json:
            say_document(as_document(outcomes, Status.as_dict))
        else:
            for line in _table(outcomes):
                say(line)
    exit_with_worst([outcome.code for outcome in outcomes])


def _show_one(found: Status, *, as_json: bool) -> None:
    with suppress(EnoughError):
        if as_json:
            say_document(found.as_dict())
        else:
            for line in render(found, found.now or now()):
                say(line)
    exit_with_worst([_code(found)])


def _code(found: Status) -> Exit:
    return Exit.SHOP if found.problems else Exit.OK


async def _watch(chosen: ChosenShops) -> None:
    while True:
        lines = await (_lines_of_all(chosen) if chosen.is_list else _lines_of_one(chosen))
        if sys.stdout.isatty():
            typer.echo(CLEAR, nl=False)
        for line in (*lines, ""):
            say(line)
        await anyio.sleep(WATCH_EVERY_S)


async def _lines_of_one(chosen: ChosenShops) -> list[str]:
    try:
        found = await read_status(chosen.only)
    except TemporaryError as error:  # the next read may succeed
        return [error.text]
    return render(found, found.now or now())


async def _lines_of_all(chosen: ChosenShops) -> list[str]:
    return _table(sorted(await for_each(chosen.shops, read_status, code_of=_code), key=_rank))


def _severity(outcome: ShopOutcome[Status]) -> Severity:
    found = outcome.result
    if found is None or found.problems:
        return Severity.FAILED
    return Severity.NOTABLE if found.dead_letters or found.alerts else Severity.WELL


def _rank(outcome: ShopOutcome[Status]) -> tuple[int, int, int]:
    """Return what puts the worst shop first."""
    found = outcome.result
    return (_severity(outcome), *((-found.dead_letters, -found.waiting) if found is not None else (0, 0)))


def _table(outcomes: Sequence[ShopOutcome[Status]]) -> list[str]:
    with_shop = column([outcome.shop for outcome in outcomes])
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    counts = _counts(
        waiting=sum(found.waiting for found in results), dead=sum(found.dead_letters for found in results)
    )
    return [*(_line(outcome, with_shop) for outcome in outcomes), summary(outcomes, counts)]


def _line(outcome: ShopOutcome[Status], with_shop: Callable[[str, str], str]) -> str:
    found = outcome.result
    about = outcome.problem
    if found is not None:
        parts = [
            *(() if found.is_watched else (Text("no daemon watches it"),)),
            *((found.poll_problem,) if found.poll_problem else ()),
            _polled(found, found.now or now()),
            *(
                Text("{name}: {cause}", name=name, cause=alert.cause)
                for name, alert in found.alerts.items()
                if name != found.shop
            ),
            _counts(waiting=found.waiting, dead=found.dead_letters),
        ]
        about = joined("; ", parts)
    line = with_shop(outcome.shop, about)
    severity = _severity(outcome)
    if severity is Severity.FAILED:
        return Text("FAIL  {finding}", finding=line)
    if severity is Severity.NOTABLE:
        return Text("note  {advice}", advice=line)
    return Text("ok    {finding}", finding=line)


def _polled(found: Status, at: datetime) -> str:
    if found.state is None or found.state.last_poll_at is None:
        return Text("never polled")
    return Text("polled {age} ago", age=described(max((at - found.state.last_poll_at).total_seconds(), 0.0)))


def _counts(*, waiting: int, dead: int) -> str:
    return Text("{waiting:,} waiting, {dead:,} dead letters", waiting=waiting, dead=dead)
