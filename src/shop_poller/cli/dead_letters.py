"""The commands `dead list`, `dead show`, `dead replay` and `dead drop`. The daemon may be running."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

import anyio
import typer

from shop_poller.cli.console import (
    CommandError,
    Config,
    EnoughError,
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
from shop_poller.cli.deliveries import Id, detail_lines, list_command
from shop_poller.config.settings import Settings
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text
from shop_poller.ports import DeadLetter, DeadLetters, DeliveryStatus, StoredDelivery
from shop_poller.stores import concurrent_store, peek_store

AT_ONCE = 100
"""Dead letters per commit: the daemon waits for each commit."""
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

Action = Literal["replay", "drop"]


class UnknownDeadLetterError(CommandError):
    """There is no dead letter with that id."""

    def __init__(self, seq: int) -> None:
        super().__init__(Text("there is no dead letter {id}; `shop-poller dead list` lists them", id=seq))


class UnknownSinkError(CommandError):
    """No delivery was ever meant for a sink of that name; the text lists the known ones."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        super().__init__(
            Text(
                "no sink is named {name} in the settings or in dead letters; known sinks: {known}",
                name=shown(name, is_name=True),
                known=", ".join(sorted(known)) or Text("none"),
            )
        )


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those with these ids, or those that match every other field.

    Attributes:
        older_than: time since they failed.
        newer_than: likewise.
    """

    ids: frozenset[int] = frozenset()
    sink: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    everything: bool = False

    @property
    def problem(self) -> str:
        """What is wrong with the filter, in one line; "" if nothing is."""
        fits = [self.sink is not None, self.older_than is not None, self.newer_than is not None]
        ways = [bool(self.ids), any(fits), self.everything]
        if sum(ways) == 1:
            return ""
        ask = Text("name their ids, or use --sink, --older-than, --newer-than, or --all")
        if any(ways):
            return Text("{advice}; only one of these", advice=ask)
        return Text("which dead letters? {advice}", advice=ask)

    async def find(self, dead_letters: DeadLetters, shop: str, now: datetime) -> list[int]:
        """Return the ids of the dead letters that match, in the order of their events.

        Raises:
            UnknownDeadLetterError: there is none with one of the ids.
        """
        found = await dead_letters.dead_ids(
            shop,
            sink=self.sink,
            since=None if self.newer_than is None else now - self.newer_than,
            before=None if self.older_than is None else now - self.older_than,
        )
        if not self.ids:
            return found
        for missing in sorted(self.ids.difference(found)):
            raise UnknownDeadLetterError(missing)
        return [seq for seq in found if seq in self.ids]


@dataclass(frozen=True, slots=True)
class DeadLettersChanged:
    """What `move` did.

    Attributes:
        moved: dead letters that still existed when they were processed.
        orphans: sinks with waiting deliveries that no setting names.
    """

    moved: int
    orphans: tuple[str, ...] = ()


app.command(
    "list",
    help="List dead letters, the latest first; the daemon may be running.",
    epilog="""\b
Examples:
  shop-poller dead list
  shop-poller dead list --sink crm --limit 500 --json
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
        shop: ShopId = None,
        sink: SinkName = None,
        older_than: OlderThan = None,
        newer_than: NewerThan = None,
        everything: Everything = False,
        yes: Yes = False,
    ) -> None:
        older, newer = (None if days is None else timedelta(days=days) for days in (older_than, newer_than))
        choice = DeadLetterFilter(frozenset(ids or ()), sink, older, newer, everything)
        if choice.problem:
            raise refused(choice.problem)
        settings = load_settings(config, shop)
        try:
            chosen = anyio.run(find, settings, choice)
        except (UnknownDeadLetterError, UnknownSinkError) as error:
            raise refused(error.text) from error
        if chosen:
            _move(action, settings, chosen, yes=yes)
        elif action == "drop":
            say(Text("there is nothing to drop"))
        else:
            say(Text("there is nothing to replay"))

    return run


app.command(
    "replay",
    help="Put dead letters back into the outbox, with their old ids; the daemon may be running.",
    epilog="""\b
Examples:
  shop-poller dead replay 1
  shop-poller dead replay --sink crm --newer-than 2 --yes
  shop-poller dead replay --all
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


def _move(action: Action, settings: Settings, chosen: Sequence[int], *, yes: bool) -> None:
    count = len(chosen)
    if count > 1 and not yes:
        if action == "drop" and not on_terminal():
            raise refused(Text("this would delete {count:,} dead letters; add --yes to confirm", count=count))
        question = Text("drop {count:,} dead letters?", count=count)
        if action == "replay":
            question = Text("replay {count:,} dead letters?", count=count)
        if not agreed(question):
            say(Text("nothing was changed"))
            return
    done = anyio.run(move, settings, action, chosen)
    if action == "drop":
        say(Text("dropped {done:,} of {all:,}", done=done.moved, all=count))
    else:
        say(Text("replayed {done:,} of {all:,}", done=done.moved, all=count))
    for name in done.orphans:
        complain(
            Text(
                "deliveries wait for {sink}, which SHOP_NOTIFY_URLS does not name; name it to send them",
                sink=name,
            )
        )


async def find(settings: Settings, choice: DeadLetterFilter) -> list[int]:
    """Find the dead letters that match; nothing is changed.

    Returns:
        Their ids, in the order of their events.

    Raises:
        UnknownDeadLetterError: there is none with one of the ids.
        UnknownSinkError: there is no such sink.
        PermanentError, TemporaryError: STORE.
    """
    shop = settings.shop
    async with store_of(settings, concurrent_store) as store:
        await store.load(shop)  # raises if the state belongs to another shop
        found = await choice.find(store, shop, store.now())
        if not found and choice.sink is not None:
            stats = await store.stats(shop)
            sinks = {sink.name for sink in settings.sinks} | {*stats.sinks}
            if choice.sink not in sinks:
                raise UnknownSinkError(choice.sink, sinks)
    return found


async def move(settings: Settings, action: Action, seqs: Sequence[int]) -> DeadLettersChanged:
    """Replay or drop dead letters, a hundred at a time, in this order.

    Raises:
        PermanentError, TemporaryError: STORE; run it again to resume, none is replayed twice.
    """
    shop, moved = settings.shop, 0
    async with store_of(settings, concurrent_store) as store:
        for start in range(0, len(seqs), AT_ONCE):
            some = seqs[start : start + AT_ONCE]
            if action == "drop":
                moved += await store.drop_concurrently(shop, some)
            else:
                moved += await store.replay_concurrently(shop, some, store.now())
        stats = await store.stats(shop)
    named = {sink.name for sink in settings.sinks}
    waiting = (name for name, sink in stats.sinks.items() if sink.waiting and name not in named)
    return DeadLettersChanged(moved, tuple(waiting) if action == "replay" else ())


async def read_dead_letter(settings: Settings, seq: int) -> DeadLetter:
    """Read one dead letter; raises UnknownLetterError, or STORE errors."""
    async with store_of(settings, peek_store) as store:
        await store.load(settings.shop)
        found = await store.dead_letter(settings.shop, seq)
    if found is None:
        raise UnknownDeadLetterError(seq)
    return found
