"""The commands `dead list`, `dead show`, `dead replay` and `dead drop`. The daemon may be running."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

import anyio
import typer

from shop_poller.cli.chosen_shops import AllShops, ChosenShops, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import (
    AsDocument,
    Config,
    EnoughError,
    Exit,
    ShopId,
    SinkName,
    Yes,
    agreed,
    complain,
    load_settings,
    make_app,
    on_terminal,
    refused,
    say,
    store_of,
)
from shop_poller.cli.dead_letter_moves import (
    Action,
    DeadLetterFilter,
    DeadLettersChanged,
    UnknownDeadLetterError,
    UnknownSinkError,
    find,
    move,
)
from shop_poller.cli.deliveries import Id, detail_lines, list_command
from shop_poller.cli.each_shop import as_document, column, exit_with_worst, finish, run_each, say_document
from shop_poller.config.settings import Settings
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import DeadLetter, DeliveryStatus, StoredDelivery
from shop_poller.stores import peek_store

MOST_DAYS = 36_500

app = make_app(name="dead", no_args_is_help=True, help="Show, replay or drop dead letters.")

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, max=2**63 - 1)]
OlderThan = Annotated[
    float | None,
    typer.Option("--older-than", metavar="DAYS", min=0, max=MOST_DAYS, help="Failed more than DAYS ago."),
]
NewerThan = Annotated[
    float | None,
    typer.Option("--newer-than", metavar="DAYS", min=0, max=MOST_DAYS, help="Failed less than DAYS ago."),
]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters.")]

app.command(
    "list",
    help="List dead letters, the latest first; the daemon may be running.",
    epilog="""\b
Examples:
  shop-poller dead list
  shop-poller dead list --sink crm --limit 500 --json
  shop-poller dead list --all
Exit codes: 2 settings, 4 cannot print, 5 state.""",
)(list_command(dead=True))


@app.command(
    epilog="""\b
Example:
  shop-poller dead show 1
Exit codes: 2 settings, or no such id; 4 cannot print; 5 state."""
)
def show(dead_letter: Id, config: Config = None, shop: ShopId = None) -> None:
    """Print one dead letter with its notification; the daemon may be running."""
    settings = load_settings(config, shop)
    try:
        found = anyio.run(read_dead_letter, settings, dead_letter)
    except UnknownDeadLetterError as error:
        raise refused(error.text) from error
    with suppress(EnoughError):
        dead = StoredDelivery(DeliveryStatus.DEAD, found.over, found.body, found.created_at)
        for line in detail_lines(dead):
            say(line)


def move_command(action: Action) -> Callable[..., None]:
    """Return the command that replays dead letters, or deletes them."""

    def run(
        *,
        ids: Ids = None,
        config: Config = None,
        shop: ShopIds = None,
        tag: ShopTags = None,
        all_shops: AllShops = False,
        sink: SinkName = None,
        older_than: OlderThan = None,
        newer_than: NewerThan = None,
        everything: Everything = False,
        yes: Yes = False,
        as_json: AsDocument = False,
    ) -> None:
        older, newer = (None if days is None else timedelta(days=days) for days in (older_than, newer_than))
        choice = DeadLetterFilter(frozenset(ids or ()), sink, older, newer, everything)
        if choice.problem:
            raise refused(choice.problem)
        chosen = load_chosen(config, shop, tag, all_shops=all_shops, needs_shop_keys=True)
        if chosen.is_list:
            _move_each(action, chosen, choice, yes=yes, as_json=as_json)
        else:
            _move_of_one(action, chosen.only, choice, yes=yes, as_json=as_json)

    return run


def _move_of_one(
    action: Action, settings: Settings, choice: DeadLetterFilter, *, yes: bool, as_json: bool
) -> None:
    try:
        found = anyio.run(find, settings, choice)
    except (UnknownDeadLetterError, UnknownSinkError) as error:
        raise refused(error.text) from error
    done = DeadLettersChanged(0, len(found))
    if found and not _is_agreed(action, len(found), yes=yes):
        if not as_json:
            say(Text("nothing was changed"))
            return
    elif found:
        done = anyio.run(move, settings, action, found)
    if as_json:
        say_document({"shop": settings.shop, **_as_dict(action, done)})
    else:
        say(_moved(action, done.moved, len(found)) if found else _nothing(action))
    _complain_of_orphans(done)


def _move_each(
    action: Action, chosen: ChosenShops, choice: DeadLetterFilter, *, yes: bool, as_json: bool
) -> None:
    """Find the dead letters of all shops, ask once, and move them."""
    if choice.ids:
        raise refused(Text("an id belongs to one shop; name the shop by --shop"))
    found = run_each(chosen.shops, partial(find, choice=choice))
    without_sink = [outcome for outcome in found if outcome.code is Exit.SETTINGS]
    if len(without_sink) == len(found):
        raise refused(found[0].problem)
    found = [outcome for outcome in found if outcome not in without_sink]
    seqs = {outcome.shop: outcome.result or [] for outcome in found}
    count = sum(map(len, seqs.values()))
    is_agreed = count == 0 or _is_agreed(action, count, yes=yes)

    async def move_some(settings: Settings) -> DeadLettersChanged:
        return await move(settings, action, seqs[settings.shop] if is_agreed else ())

    unread = [outcome.failed() for outcome in found if outcome.problem]
    readable = [one for one in chosen.shops if one.shop in seqs and one.shop not in {o.shop for o in unread}]
    done = [*run_each(readable, move_some), *unread]
    if as_json:
        say_document(as_document(done, partial(_as_dict, action)))
        exit_with_worst([outcome.code for outcome in done])
        return
    with_shop = column([shop for shop, some in seqs.items() if some])
    for outcome in done:
        if outcome.result is not None and seqs[outcome.shop] and is_agreed:
            say(with_shop(outcome.shop, _moved(action, outcome.result.moved, len(seqs[outcome.shop]))))
            _complain_of_orphans(outcome.result, outcome.shop)
    moved = sum(outcome.result.moved for outcome in done if outcome.result is not None)
    total = _moved(action, moved, count) if count else _nothing(action)
    finish(done, total if is_agreed else Text("nothing was changed"))


app.command(
    "replay",
    help="Put dead letters back into the outbox, with their old ids; the daemon may be running.",
    epilog="""\b
Examples:
  shop-poller dead replay 1
  shop-poller dead replay --sink crm --newer-than 2 --yes
  shop-poller dead replay --all --all-shops
Exit codes: 2 settings, or no such id or sink; 4 cannot print;
5 state (run it again).""",
)(move_command("replay"))
app.command(
    "drop",
    help="Delete dead letters; the daemon may be running. Without a terminal, several need --yes.",
    epilog="""\b
Examples:
  shop-poller dead drop 1
  shop-poller dead drop --older-than 14 --yes
Exit codes: 2 settings, no such id or sink, or --yes is missing; 4 cannot print;
5 state (run it again).""",
)(move_command("drop"))


def _is_agreed(action: Action, count: int, *, yes: bool) -> bool:
    if count == 1 or yes:
        return True
    if action == "drop" and not on_terminal():
        raise refused(Text("this would delete {count:,} dead letters; add --yes to confirm", count=count))
    if action == "replay":
        return agreed(Text("replay {count:,} dead letters?", count=count))
    return agreed(Text("drop {count:,} dead letters?", count=count))


def _moved(action: Action, done: int, count: int) -> str:
    if action == "drop":
        return Text("dropped {done:,} of {all:,}", done=done, all=count)
    return Text("replayed {done:,} of {all:,}", done=done, all=count)


def _nothing(action: Action) -> str:
    return Text("there is nothing to drop") if action == "drop" else Text("there is nothing to replay")


def _as_dict(action: Action, done: DeadLettersChanged) -> dict[str, Any]:
    return {"dropped" if action == "drop" else "replayed": done.moved, "found": done.found}


def _complain_of_orphans(done: DeadLettersChanged, shop: str = "") -> None:
    for name in done.orphans:
        problem = Text(
            "deliveries wait for {sink}, which SHOP_NOTIFY_URLS does not name; name it to send them",
            sink=name,
        )
        complain(joined(": ", [shop, problem]) if shop else problem)


async def read_dead_letter(settings: Settings, seq: int) -> DeadLetter:
    """Read one dead letter; raises UnknownLetterError, or STORE errors."""
    async with store_of(settings, peek_store) as store:
        await store.load(settings.shop)
        found = await store.dead_letter(settings.shop, seq)
    if found is None:
        raise UnknownDeadLetterError(seq)
    return found
