"""The commands `dead` and `deliveries`. What only one command needs is imported in it, as in cli.py."""

import json
from contextlib import aclosing, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from shop_poller.cli.console import (
    Config,
    EnoughError,
    Exit,
    ShopId,
    SinkName,
    Yes,
    agreed,
    complain,
    load_settings,
    on_terminal,
    say,
)

if TYPE_CHECKING:
    from shop_poller.cli.dead_letters import Action, DeadLetterFilter
    from shop_poller.config.settings import Settings
    from shop_poller.ports import FinishedDelivery

MOST_SHOWN = 10_000
MOST_DAYS = 36_500

dead = typer.Typer(no_args_is_help=True, help="Look at dead letters, send them again, or drop them.")
deliveries = typer.Typer(no_args_is_help=True, help="Look at the deliveries that were made.")

Limit = Annotated[int, typer.Option("--limit", min=1, max=MOST_SHOWN, help="So many at most, the latest.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: an object a line.")]
Id = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1)]
Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, max=2**63 - 1)]
OlderThan = Annotated[
    float | None,
    typer.Option("--older-than", metavar="DAYS", min=0, max=MOST_DAYS, help="Given up longer ago than that."),
]
NewerThan = Annotated[
    float | None,
    typer.Option("--newer-than", metavar="DAYS", min=0, max=MOST_DAYS, help="Given up within so many days."),
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]


@dead.command(
    "list",
    epilog="""\b
Examples:
  shop-poller dead list
  shop-poller dead list --sink crm --limit 500 --json
Exit codes: 2 settings, 4 it could not print, 5 state.""",
)
def list_dead(
    *,
    config: Config = None,
    shop: ShopId = None,
    sink: SinkName = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Say what was given up, the latest first; the daemon may be running."""
    _list(config, shop, sink, limit, dead=True, as_json=as_json)


@dead.command(
    epilog="""\b
Example:
  shop-poller dead show 1
Exit codes: 2 settings, or there is none of that id; 4 it could not print; 5 state."""
)
def show(letter: Id, config: Config = None, shop: ShopId = None) -> None:
    """Say all of one dead letter, with the notification that could not be delivered."""
    from shop_poller.cli import dead_letters  # noqa: PLC0415 - see the module's docstring

    settings = load_settings(config, shop)
    try:
        found = anyio.run(dead_letters.letter, settings, letter)
    except dead_letters.UnknownLetterError as error:
        raise _refused(str(error)) from error
    with suppress(EnoughError):
        for line in dead_letters.dead_letter_lines(found):
            say(line)


@dead.command(
    epilog="""\b
Examples:
  shop-poller dead replay 1
  shop-poller dead replay --sink crm --newer-than 2 --yes
  shop-poller dead replay --all
Exit codes: 2 settings, or there is none of that id or no such sink; 4 it could not print;
5 state (run it again to go on)."""
)
def replay(
    *,
    ids: Ids = None,
    config: Config = None,
    shop: ShopId = None,
    sink: SinkName = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: Everything = False,
    yes: Yes = False,
) -> None:
    """Put dead letters back into the outbox, with their old ids; the daemon may be running."""
    choice = _choice(ids, sink, older_than, newer_than, everything=everything)
    _move("replay", choice, load_settings(config, shop), yes=yes)


@dead.command(
    epilog="""\b
Examples:
  shop-poller dead drop 1
  shop-poller dead drop --older-than 14 --yes
Exit codes: 2 settings, there is none of that id or no such sink, or --yes is missing;
4 it could not print; 5 state (run it again to go on)."""
)
def drop(
    *,
    ids: Ids = None,
    config: Config = None,
    shop: ShopId = None,
    sink: SinkName = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: Everything = False,
    yes: Yes = False,
) -> None:
    """Forget dead letters for good; the daemon may be running. Without a terminal many need --yes."""
    choice = _choice(ids, sink, older_than, newer_than, everything=everything)
    _move("drop", choice, load_settings(config, shop), yes=yes)


def _list(
    config: Config, shop: str | None, sink: str | None, limit: int, *, dead: bool, as_json: bool
) -> None:
    from shop_poller.cli import dead_letters  # noqa: PLC0415 - see the module's docstring

    settings = load_settings(config, shop)
    found = anyio.run(partial(dead_letters.over, settings, dead=dead, sink=sink, limit=limit))
    with suppress(EnoughError):
        for one in found:
            say(_shown(one, dead=dead, as_json=as_json))
    if not found and not as_json:
        say("no dead letters" if dead else "nothing was delivered yet")


def _shown(one: "FinishedDelivery", *, dead: bool, as_json: bool) -> str:
    from shop_poller.cli import dead_letters  # noqa: PLC0415 - see the module's docstring

    if not as_json:
        return dead_letters.dead_line(one) if dead else dead_letters.delivered_line(one)
    fields = dead_letters.as_dict(one)
    if not dead:
        del fields["reason"]
    return json.dumps(fields, ensure_ascii=False)


def _choice(
    ids: list[int] | None,
    sink: str | None,
    older_than: float | None,
    newer_than: float | None,
    *,
    everything: bool,
) -> "DeadLetterFilter":
    from shop_poller.cli.dead_letters import DeadLetterFilter  # noqa: PLC0415 - see the module's docstring

    def days(number: float | None) -> timedelta | None:
        return None if number is None else timedelta(days=number)

    choice = DeadLetterFilter(frozenset(ids or ()), sink, days(older_than), days(newer_than), everything)
    if choice.problem:
        raise _refused(choice.problem)
    return choice


def _move(action: "Action", choice: "DeadLetterFilter", settings: "Settings", *, yes: bool) -> None:
    from shop_poller.cli import dead_letters  # noqa: PLC0415 - see the module's docstring

    try:
        chosen = anyio.run(dead_letters.find, settings, choice)
    except (dead_letters.UnknownLetterError, dead_letters.UnknownSinkError) as error:
        raise _refused(str(error)) from error
    if not chosen:
        say(f"there is nothing to {action}")
        return
    if len(chosen) > 1 and not yes:
        if action == "drop" and not on_terminal():
            raise _refused(f"would drop {len(chosen):,} dead letters for good; say --yes if they are meant")
        if not agreed(f"{action} {len(chosen):,} dead letters?"):
            say("left as they are")
            return
    done = anyio.run(dead_letters.move, settings, action, chosen)
    did = {"replay": "replayed", "drop": "dropped"}[action]
    say(f"{did} {done.moved:,} of {len(chosen):,}")
    for name in done.orphans:
        complain(f"deliveries wait for {name}, which SHOP_NOTIFY_URLS does not name; name it to send them")


def _refused(problem: str) -> typer.Exit:
    complain(problem)
    return typer.Exit(Exit.SETTINGS)


@deliveries.command(
    "list",
    epilog="""\b
Examples:
  shop-poller deliveries list
  shop-poller deliveries list --sink crm --limit 500 --json
Exit codes: 2 settings, 4 it could not print, 5 state.""",
)
def list_delivered(
    *,
    config: Config = None,
    shop: ShopId = None,
    sink: SinkName = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Say what was delivered, and when, the latest first; the daemon may be running."""
    _list(config, shop, sink, limit, dead=False, as_json=as_json)


@deliveries.command(
    epilog="""\b
Example:
  shop-poller deliveries tail
Exit codes: 2 settings, 4 it could not print, 5 state."""
)
def tail(
    *, config: Config = None, shop: ShopId = None, sink: SinkName = None, as_json: AsJson = False
) -> None:
    """Say what is delivered as it is delivered, until Ctrl-C; begins with the last ten."""
    from shop_poller.cli import dead_letters  # noqa: PLC0415 - see the module's docstring

    settings = load_settings(config, shop)

    async def follow() -> None:
        async with aclosing(dead_letters.tail(settings, sink)) as made:
            async for one in made:
                say(_shown(one, dead=False, as_json=as_json))

    with suppress(KeyboardInterrupt, EnoughError):
        anyio.run(follow)
