"""The commands `deliveries list` and `deliveries tail`; `dead list`, which prints the same table.

They only read the store, so the daemon may be running.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import anyio
import typer

from shop_poller.cli.console import (
    AsJson,
    Config,
    EnoughError,
    ShopId,
    SinkName,
    load_settings,
    make_app,
    say,
    store_of,
)
from shop_poller.config.settings import Settings
from shop_poller.core.model import iso
from shop_poller.ports import FinishedDelivery
from shop_poller.stores import follow_store, peek_store
from shop_poller.stores.bounds import MAX_FINISHED

LOOK_EVERY_S = 1.0
SHOWN_FIRST, PAGE = 10, 100
LONG_AGO = datetime.min.replace(tzinfo=UTC)
LATE = timedelta(seconds=15)
"""Deliveries of several sinks are recorded nearly, but not exactly, in the order of their times."""

app = make_app(name="deliveries", no_args_is_help=True, help="Show successful deliveries.")

Limit = Annotated[
    int, typer.Option("--limit", min=1, max=MAX_FINISHED, help="Print at most this many, the latest.")
]


def list_command(*, dead: bool) -> Callable[..., None]:
    """Return the command that lists dead letters, or successful deliveries."""

    def run(
        *,
        config: Config = None,
        shop: ShopId = None,
        sink: SinkName = None,
        limit: Limit = 50,
        as_json: AsJson = False,
    ) -> None:
        found = anyio.run(_finished, load_settings(config, shop), dead, sink, limit)
        with suppress(EnoughError):
            for one in found:
                say(_line(one, dead=dead, as_json=as_json))
        if not found and not as_json:
            say("no dead letters" if dead else "nothing has been delivered yet")

    return run


app.command(
    "list",
    help="List successful deliveries, the latest first; the daemon may be running.",
    epilog="""\b
Examples:
  shop-poller deliveries list
  shop-poller deliveries list --sink crm --limit 500 --json
Exit codes: 2 settings, 4 cannot print, 5 state.""",
)(list_command(dead=False))


@app.command(
    "tail",
    epilog="""\b
Example:
  shop-poller deliveries tail
Exit codes: 2 settings, 4 cannot print, 5 state.""",
)
def tail_command(
    *, config: Config = None, shop: ShopId = None, sink: SinkName = None, as_json: AsJson = False
) -> None:
    """Print the last ten deliveries, then each new one, until Ctrl-C."""
    settings = load_settings(config, shop)

    async def follow() -> None:
        async with aclosing(tail(settings, sink)) as made:
            async for one in made:
                say(_line(one, dead=False, as_json=as_json))

    with suppress(KeyboardInterrupt, EnoughError):
        anyio.run(follow)


async def tail(settings: Settings, sink: str | None) -> AsyncGenerator[FinishedDelivery]:
    """Yield the last few successful deliveries, then each new one, without end."""
    shop = settings.shop
    async with store_of(settings, follow_store) as store:
        await store.load(shop)
        found = await store.finished(shop, dead=False, limit=PAGE, sink=sink)
        for one in reversed(found[:SHOWN_FIRST]):
            yield one
        # A delivery after the horizon that is not in `seen` is new.
        horizon, now = (found[-1].at if len(found) == PAGE else LONG_AGO), store.now()
        seen = {one.seq: one.at for one in found}
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await store.ask_clock()
            before, now = now, store.now()
            if now < before:  # the clock was set back: deliveries later than now were made before that
                horizon = min(horizon, now - LATE)
                later = await store.finished(shop, dead=False, limit=MAX_FINISHED, sink=sink, after=now)
                seen |= {one.seq: one.at for one in later}
            fresh = await store.finished(shop, dead=False, limit=MAX_FINISHED, sink=sink, after=horizon)
            for one in reversed(fresh):
                if one.seq not in seen:
                    seen[one.seq] = one.at
                    yield one
            horizon = max([horizon, *(at - LATE for at in seen.values() if at <= now)])
            seen = {seq: at for seq, at in seen.items() if at > horizon}


async def _finished(settings: Settings, dead: bool, sink: str | None, limit: int) -> list[FinishedDelivery]:  # noqa: FBT001 - for anyio.run
    async with store_of(settings, peek_store) as store:
        await store.load(settings.shop)
        return await store.finished(settings.shop, dead=dead, limit=limit, sink=sink)


def as_dict(one: FinishedDelivery) -> dict[str, Any]:
    """Return a finished delivery, for programs."""
    return {
        "id": one.seq,
        "sink": one.sink,
        "key": one.key,
        "event_id": one.event_id,
        "event_type": one.event_type,
        "attempts": one.attempts,
        "at": iso(one.at),
        "reason": one.reason,
    }


def delivered_line(one: FinishedDelivery) -> str:
    """Return a successful delivery, for people."""
    return f"{iso(one.at)}  {one.sink}  {one.key}  {one.event_type}  {one.event_id}"


def _dead_line(one: FinishedDelivery) -> str:
    failed = f"{one.attempts} failed attempts"
    return f"{one.seq:>8}  {iso(one.at)}  {one.sink}  {one.key}  {one.event_type}  {failed}  {one.reason}"


def _line(one: FinishedDelivery, *, dead: bool, as_json: bool) -> str:
    if not as_json:
        return _dead_line(one) if dead else delivered_line(one)
    fields = as_dict(one)
    if not dead:
        del fields["reason"]
    return json.dumps(fields, ensure_ascii=False)
