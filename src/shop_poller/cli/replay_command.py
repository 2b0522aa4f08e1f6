"""The command `replay`: sends past deliveries again. The daemon may be running."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import anyio
import typer

from shop_poller.cli.chosen_shops import ChosenShops, EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import (
    DATES,
    AsDocument,
    CommandError,
    Config,
    Exit,
    Since,
    SinkName,
    Yes,
    agreed,
    complain,
    make_app,
    refused,
    say,
    utc,
)
from shop_poller.cli.deliveries import as_dict, delivered_line
from shop_poller.cli.each_shop import (
    ShopOutcome,
    column,
    exit_with_worst,
    finish,
    run_each,
    say_document,
)
from shop_poller.cli.replay import (
    FoundDeliveries,
    ReplayFilter,
    UnknownEventError,
    find,
    put_back,
    put_back_all,
)
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import iso
from shop_poller.core.translatable import Text, joined

app = make_app()

Until = Annotated[
    datetime | None,
    typer.Option("--until", formats=DATES, metavar="DATE", help="Delivered before DATE. Default: now."),
]
Event = Annotated[
    str | None,
    typer.Option("--event", metavar="NAME", help="Only this event: shop.order.new, new, or shop.order.*"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent again; change nothing.")]


@app.command(
    epilog="""\b
Examples:
  shop-poller replay --since 2026-11-24T18:00:00 --dry-run
  shop-poller replay --since 2026-11-01 --sink crm --event new --yes
  shop-poller replay --since 2026-11-24 --all --dry-run
Exit codes: 2 settings, 5 state (it prints how to resume)."""
)
def replay(
    *,
    since: Since,
    until: Until = None,
    sink: SinkName = None,
    event: Event = None,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsDocument = False,
) -> None:
    """Send again what was delivered since DATE, with the old ids; the daemon may be running."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops, needs_shop_keys=True)
    start, end = utc(since), until.replace(tzinfo=UTC) if until else None
    if end is not None and end <= start:
        raise typer.BadParameter(Text("is not after --since"), param_hint="--until")
    choice = ReplayFilter(start, end, sink, event)
    if chosen.is_list:
        _replay_each(chosen, choice, dry_run=dry_run, yes=yes, as_json=as_json)
    else:
        _replay_one(chosen.only, choice, dry_run=dry_run, yes=yes, as_json=as_json)


def _replay_one(settings: Settings, choice: ReplayFilter, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    try:
        found = anyio.run(find, settings, choice)
    except UnknownEventError as error:
        raise refused(error.text) from error
    count, done = len(found.again), 0
    _complain_of(found)
    is_agreed = dry_run or not count or _is_agreed(count, yes=yes)
    if count and is_agreed and not dry_run:
        done = put_back_all(settings, found)
    if as_json:
        say_document({"shop": settings.shop, **_as_dict(found, done, dry_run=dry_run)})
        return
    if dry_run:
        for one in found.again:
            say(delivered_line(one))
    say(_result(count, done, dry_run=dry_run, is_agreed=is_agreed))


def _replay_each(
    chosen: ChosenShops, choice: ReplayFilter, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Find the deliveries of all shops, ask once, and put them back."""
    outcomes = run_each(chosen.shops, partial(find, choice=choice))
    without_event = [outcome for outcome in outcomes if outcome.code is Exit.SETTINGS]
    if len(without_event) == len(outcomes):
        raise refused(outcomes[0].problem)
    found = {outcome.shop: outcome.result for outcome in outcomes if outcome.result is not None}
    unread = [one.failed() for one in outcomes if one.problem and one not in without_event]
    count = sum(len(one.again) for one in found.values())
    is_agreed = dry_run or not count or _is_agreed(count, yes=yes)
    with_shop = column([shop for shop, one in found.items() if one.again])
    for shop, one in found.items():
        _complain_of(one, shop)
        for delivery in one.again if dry_run and not as_json else ():
            say(with_shop(shop, delivered_line(delivery)))

    async def put_back_some(settings: Settings) -> int:
        return await _put_back(settings, found[settings.shop]) if is_agreed and not dry_run else 0

    done: Sequence[ShopOutcome[int]] = [
        *run_each([one for one in chosen.shops if one.shop in found], put_back_some),
        *unread,
    ]
    if as_json:
        say_document(
            [
                outcome.error()
                if outcome.result is None
                else {
                    "shop": outcome.shop,
                    **_as_dict(found[outcome.shop], outcome.result, dry_run=dry_run),
                }
                for outcome in done
            ]
        )
        exit_with_worst([outcome.code for outcome in done])
        return
    moved = sum(outcome.result or 0 for outcome in done)
    finish(done, _result(count, moved, dry_run=dry_run, is_agreed=is_agreed))


async def _put_back(settings: Settings, found: FoundDeliveries) -> int:
    """Put the deliveries of one of several shops back; return how many were.

    Raises:
        CommandError: the state failed; the text says how to resume.
    """
    done = 0

    def step(_: int, put: int) -> None:
        nonlocal done
        done += put

    try:
        await put_back(settings, found.again, step)
    except ShopPollerError as error:
        text = Text(
            "{error}; replayed {done:,} of {all:,}, perhaps a few more; to resume, run it again with"
            " --until {at}",
            error=error.text,
            done=done,
            all=len(found.again),
            at=iso(found.before),
        )
        code = Exit.STATE if error.kind is ErrorKind.STORE else Exit.SHOP
        raise CommandError(text, code) from error
    return done


def _is_agreed(count: int, *, yes: bool) -> bool:
    return yes or count == 1 or agreed(Text("send {count:,} deliveries again?", count=count))


def _result(count: int, done: int, *, dry_run: bool, is_agreed: bool) -> str:
    if dry_run:
        return Text("would send {count:,} again; changed nothing", count=count)
    if not count:
        return Text("there is nothing to replay")
    if not is_agreed:
        return Text("nothing was changed")
    return Text("replayed {done:,} of {all:,}", done=done, all=count)


def _complain_of(found: FoundDeliveries, shop: str = "") -> None:
    """Print what cannot be sent again."""
    problems: list[str] = []
    if found.bare:
        problems.append(
            Text(
                "{count:,} cannot be sent again: an older version delivered them without keeping a copy",
                count=found.bare,
            )
        )
    problems += [
        Text("skipped: deliveries to {sink}, which SHOP_NOTIFY_URLS does not name", sink=name)
        for name in found.orphans
    ]
    for problem in problems:
        complain(joined(": ", [shop, problem]) if shop else problem)


def _as_dict(found: FoundDeliveries, done: int, *, dry_run: bool) -> dict[str, Any]:
    listed = {"deliveries": [as_dict(one) for one in found.again]} if dry_run else {}
    return {
        "found": len(found.again),
        "replayed": done,
        "without_text": found.bare,
        "skipped_sinks": list(found.orphans),
        **listed,
    }
