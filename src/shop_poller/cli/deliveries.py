"""The commands `deliveries list`, `show` and `tail`; `dead list`, which prints the same table.

They only read the store, so the daemon may be running.
"""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import anyio
import typer

from shop_poller.cli.chosen_shops import EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import (
    AsJson,
    Config,
    EnoughError,
    ShopId,
    SinkName,
    load_settings,
    make_app,
    refused,
    say,
    store_of,
    unknown_sink,
)
from shop_poller.cli.each_shop import (
    ShopOutcome,
    column,
    complain_of,
    exit_with_worst,
    run_each,
    say_document,
    summary,
)
from shop_poller.cli.language import as_text
from shop_poller.config.settings import Settings
from shop_poller.core.attempts import Attempt, AttemptLog
from shop_poller.core.model import iso
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import DeliveryStatus, FinishedDelivery, StoredDelivery
from shop_poller.stores import follow_store, peek_store
from shop_poller.stores.bounds import MAX_FINISHED

LOOK_EVERY_S = 1.0
SHOWN_FIRST, PAGE = 10, 100
LONG_AGO = datetime.min.replace(tzinfo=UTC)
LATE = timedelta(seconds=15)
"""Deliveries of several sinks are recorded nearly, but not exactly, in the order of their times."""

app = make_app(name="deliveries", no_args_is_help=True, help="Show deliveries and their attempts.")

STATUSES = {
    DeliveryStatus.WAITING: Text("waiting"),
    DeliveryStatus.DELIVERED: Text("delivered"),
    DeliveryStatus.DEAD: Text("dead"),
}

Id = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1)]

Limit = Annotated[
    int, typer.Option("--limit", min=1, max=MAX_FINISHED, help="Print at most this many, the latest.")
]


def list_command(*, dead: bool) -> Callable[..., None]:
    """Return the command that lists dead letters, or successful deliveries."""

    def run(
        *,
        config: Config = None,
        shop: ShopIds = None,
        tag: ShopTags = None,
        all_shops: EveryShop = False,
        sink: SinkName = None,
        limit: Limit = 50,
        as_json: AsJson = False,
    ) -> None:
        chosen = load_chosen(config, shop, tag, all_shops=all_shops, needs_shop_keys=True)
        read = partial(_finished, dead=dead, sink=sink, limit=limit)
        if chosen.is_list:
            _list_each(run_each(chosen.shops, read), limit, dead=dead, as_json=as_json)
            return
        found = anyio.run(read, chosen.only)
        if not found and not as_json and sink is not None:  # for a program, none is an answer
            _require_sink(chosen.only, sink)
        with suppress(EnoughError):
            for one in found:
                say(_line(one, dead=dead, as_json=as_json))
        if not found and not as_json:
            say(_nothing(dead=dead))

    return run


def _nothing(*, dead: bool) -> str:
    return Text("no dead letters") if dead else Text("nothing has been delivered yet")


def _list_each(
    outcomes: Sequence[ShopOutcome[list[FinishedDelivery]]], limit: int, *, dead: bool, as_json: bool
) -> None:
    """Print the deliveries of several shops: in one list, the latest first, or as one JSON document."""
    every = [(outcome.shop, one) for outcome in outcomes for one in outcome.result or ()]
    latest = sorted(every, key=lambda pair: pair[1].at, reverse=True)[:limit]
    with suppress(EnoughError):
        if as_json:
            listed: dict[str, list[dict[str, Any]]] = {}
            for shop, one in latest:
                listed.setdefault(shop, []).append(_fields(one, dead=dead))
            say_document(
                [
                    outcome.error()
                    if outcome.problem
                    else {"shop": outcome.shop, "deliveries": listed.get(outcome.shop, [])}
                    for outcome in outcomes
                ]
            )
        else:
            with_shop = column([shop for shop, _ in latest])
            for shop, one in latest:
                say(with_shop(shop, _line(one, dead=dead, as_json=False)))
            complain_of(outcomes)
            listed_count = Text("{count:,} listed", count=len(latest))
            say(summary(outcomes, listed_count if latest else _nothing(dead=dead)))
    exit_with_worst([outcome.code for outcome in outcomes])


app.command(
    "list",
    help="List successful deliveries, the latest first; the daemon may be running.",
    epilog="""\b
Examples:
  shop-poller deliveries list
  shop-poller deliveries list --sink crm --limit 500 --json
  shop-poller deliveries list --all
Exit codes: 2 settings, 4 cannot print, 5 state.""",
)(list_command(dead=False))


@app.command(
    epilog="""\b
Example:
  shop-poller deliveries show 1
Exit codes: 2 settings, or no such id; 4 cannot print; 5 state."""
)
def show(delivery: Id, config: Config = None, shop: ShopId = None) -> None:
    """Print one delivery, waiting or finished, with its attempts and its notification."""
    found = anyio.run(_read_delivery, load_settings(config, shop), delivery)
    if found is None:
        raise refused(
            Text("there is no delivery {id}; `shop-poller deliveries list` lists them", id=delivery)
        )
    with suppress(EnoughError):
        for line in detail_lines(found):
            say(line)


async def _read_delivery(settings: Settings, seq: int) -> StoredDelivery | None:
    async with store_of(settings, peek_store) as store:
        await store.load(settings.shop)
        return await store.delivery(settings.shop, seq)


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
    if sink is not None:
        _require_sink(settings, sink)

    async def follow() -> None:
        async with aclosing(tail(settings, sink)) as made:
            async for one in made:
                say(_line(one, dead=False, as_json=as_json))

    with suppress(KeyboardInterrupt, EnoughError):
        anyio.run(follow)


def _require_sink(settings: Settings, name: str) -> None:
    """Refuse the name of a sink that the settings do not have: nothing would be found, or ever come."""
    names = [sink.name for sink in settings.sinks]
    if name not in names:
        raise unknown_sink(name, names)


async def tail(settings: Settings, sink: str | None) -> AsyncGenerator[FinishedDelivery]:
    """Yield the last few successful deliveries, then each new one, without end."""
    shop = settings.shop
    async with store_of(settings, follow_store) as store:
        await store.load(shop)
        found = await store.finished(shop, dead=False, limit=PAGE, sink=sink)
        for one in reversed(found[:SHOWN_FIRST]):
            yield one
        # A delivery after the horizon that is not in `already_found` is new.
        horizon, now = (found[-1].at if len(found) == PAGE else LONG_AGO), store.now()
        already_found = {one.seq: one.at for one in found}
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await store.ask_clock()
            before, now = now, store.now()
            if now < before:  # the clock was set back: deliveries later than now were made before that
                horizon = min(horizon, now - LATE)
                later = await store.finished(shop, dead=False, limit=MAX_FINISHED, sink=sink, after=now)
                already_found |= {one.seq: one.at for one in later}
            fresh = await store.finished(shop, dead=False, limit=MAX_FINISHED, sink=sink, after=horizon)
            for one in reversed(fresh):
                if one.seq not in already_found:
                    already_found[one.seq] = one.at
                    yield one
            horizon = max([horizon, *(at - LATE for at in already_found.values() if at <= now)])
            already_found = {seq: at for seq, at in already_found.items() if at > horizon}


async def _finished(
    settings: Settings, *, dead: bool, sink: str | None, limit: int
) -> list[FinishedDelivery]:
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
        "attempts_made": one.attempt_log.count,
        "last_attempt": _attempt_dict(one.attempt_log.last),
    }


def _attempt_dict(attempt: Attempt | None) -> dict[str, Any] | None:
    if attempt is None:
        return None
    return {
        "at": iso(attempt.at),
        "took_ms": attempt.took_ms,
        "kind": attempt.kind,
        "status": attempt.status,
        "words": attempt.words,
    }


def delivered_line(one: FinishedDelivery) -> str:
    """Return a successful delivery, for people."""
    said = f"{one.seq:>8}  {iso(one.at)}  {one.sink}  {one.key}  {one.event_type}  {one.event_id}"
    last = one.attempt_log.last
    if last is None:
        return said
    return Text(
        "{delivery}  {attempts}, {result}",
        delivery=said,
        attempts=_counted(one.attempt_log.count),
        result=_result(last),
    )


def _dead_line(one: FinishedDelivery) -> str:
    return Text(
        "{delivery}  {count} failed attempts  {reason}",
        delivery=f"{one.seq:>8}  {iso(one.at)}  {one.sink}  {one.key}  {one.event_type}",
        count=one.attempts,
        reason=_reason(one),
    )


def _reason(one: FinishedDelivery) -> str:
    """Return why it became a dead letter, and what the receiver said last."""
    last = one.attempt_log.last
    words = last.words if last is not None else ""
    reason = as_text(one.reason)
    return reason if not words or words in one.reason else joined(": ", [reason, words])


def detail_lines(found: StoredDelivery) -> list[str]:
    """Return one delivery with its attempts and its text, for people."""
    one = found.over
    made = Text("charged failures: {failures}", failures=one.attempts)
    if one.attempt_log.count:
        made = Text("{attempts:,}; {failures}", attempts=one.attempt_log.count, failures=made)
    lines: list[str] = [
        Text("id           {id}", id=one.seq),
        Text("status       {status}", status=STATUSES[found.status]),
        Text("sink         {sink}", sink=one.sink),
        Text("key          {key}", key=one.key),
        Text("event        {event}", event=one.event_type),
        Text("event id     {event_id}", event_id=one.event_id),
        Text("queued       {at}", at=iso(found.created_at)),
    ]
    if found.status == DeliveryStatus.DELIVERED:
        lines.append(Text("delivered    {at}", at=iso(one.at)))
    if found.status == DeliveryStatus.DEAD:
        lines.append(Text("failed       {at}", at=iso(one.at)))
    lines += [Text("attempts     {attempts}", attempts=made), *_attempt_lines(one.attempt_log)]
    if one.reason:
        lines.append(Text("reason       {reason}", reason=as_text(one.reason)))
    return lines + _text_lines(found.body)


def _attempt_lines(log: AttemptLog) -> list[str]:
    lines: list[str] = [
        Text(
            "  {at}  {result}{words}",
            at=iso(one.at),
            result=_result(one),
            words=joined("", [": ", as_text(one.words)]) if one.words else "",
        )
        for one in log.kept
    ]
    if log.omitted:
        lines.insert(1, Text("  … {attempts} not kept", attempts=_counted(log.omitted)))
    return lines


def _result(attempt: Attempt) -> str:
    kind = attempt.kind if attempt.status is None else f"{attempt.kind} {attempt.status}"
    return Text("{result} in {took:,} ms", result=kind, took=attempt.took_ms)


def _counted(count: int) -> str:
    if count == 1:
        return Text("{count:,} attempt", count=count)
    return Text("{count:,} attempts", count=count)


def _text_lines(body: str) -> list[str]:
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False, indent=2)
    except ValueError:  # it is damaged, or an earlier version kept none
        if not body:
            return [Text("(an older version delivered it without keeping a copy)")]
        text = body
    return text.split("\n")  # not splitlines: it may have a line separator that JSON does not escape


def _line(one: FinishedDelivery, *, dead: bool, as_json: bool) -> str:
    if not as_json:
        return _dead_line(one) if dead else delivered_line(one)
    return json.dumps(_fields(one, dead=dead), ensure_ascii=False)


def _fields(one: FinishedDelivery, *, dead: bool) -> dict[str, Any]:
    fields = as_dict(one)
    if not dead:
        del fields["reason"]
    return fields
