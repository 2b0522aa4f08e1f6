"""`check` and `notify-test`: is everything right, a line each, and what to do where it is not."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from shop_poller.clock import now
from shop_poller.core.dialects import BLIND_TO, NEEDS, Dialect, candidates
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.messages import sample_notification
from shop_poller.core.model import Delivery
from shop_poller.core.redis_address import RedisAddress
from shop_poller.making import make_sinks, make_source, make_voice
from shop_poller.ports import Sink
from shop_poller.settings import Settings
from shop_poller.sources import open_source
from shop_poller.sources.auto import PROBE, Auto, Choice
from shop_poller.stores.sqlite import SqliteStore

CLOCK_TOLERANCE_S = 60.0
LEAST_FREE_BYTES = 100 * 2**20
SINK_TIMEOUT_S = 10.0

SHOP_ADVICE = {
    ErrorKind.CONNECTION: "check WOOCOMMERCE_MCP_URL, and whether this machine can reach the shop",
    ErrorKind.TIMEOUT: "check whether the shop's own pages are slow, too",
    ErrorKind.RATE_LIMIT: "wait a few minutes; if it stays so, ask whoever runs the shop's server",
}
"""What to do about errors that do not say so themselves: at a tick they pass, or do not matter yet."""

SHOWN = (
    "sink(s) in SHOP_NOTIFY_URLS with a path that looks like a secret, which log, metrics and page show"
    " as the sink's name: put a #name at the end of the address"
)

SINK_ADVICE = {
    ErrorKind.CONNECTION: "check its address in SHOP_NOTIFY_URLS, and whether it runs",
    ErrorKind.TIMEOUT: "check whether it is overloaded, or a firewall stands before it",
    ErrorKind.RATE_LIMIT: "wait a few minutes; deliveries do so by themselves",
    ErrorKind.UNAVAILABLE: "check whether it is well, and whether its address is right",
    ErrorKind.SERVER: "look into its log",
    ErrorKind.REJECTED: "check its address in SHOP_NOTIFY_URLS, and look into its log",
    ErrorKind.GONE: "take it out of SHOP_NOTIFY_URLS",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: whose it is: settings, shop, state or sink.
        about: what was looked at.
        text: what was found, and what to do if it is not well.
        ok: False if the daemon could not do its work like this.
    """

    part: str
    about: str
    text: str
    ok: bool = True


async def check(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything that the daemon needs; changes nothing anywhere."""
    every = f"every {settings.shop_polling_interval:g} s"
    yield Finding("settings", "settings", f"shop {settings.shop}, {every}, {len(settings.sinks)} sink(s)")
    shown = sum(address.shows_secret for address in settings.sinks)
    if shown:
        yield Finding("settings", "settings", f"{shown} {SHOWN}")
    async for finding in _check_shop(settings):
        yield finding
    yield await _check_state(settings)
    async with _sinks(settings) as sinks:
        for sink in sinks:
            yield await _attempt(sink, sink.check)


async def notify_test(settings: Settings) -> AsyncIterator[Finding]:
    """Send one harmless notification to every sink."""
    notification = sample_notification(make_voice(settings), now=now())
    async with _sinks(settings) as sinks:
        for sink in sinks:
            delivery = Delivery(
                seq=0,
                shop_id=settings.shop,
                sink=sink.name,
                key=notification.key,
                event_id=notification.event_id,
                event_type=notification.event_type,
                body=notification.body(),
                attempts=0,
                created_at=notification.created_at,
                head_since=notification.created_at,
            )
            yield await _attempt(sink, partial(_send, sink, delivery))


async def _check_shop(settings: Settings) -> AsyncIterator[Finding]:
    source = make_source(settings)
    began = anyio.current_time()
    choice: Choice | None = None
    try:
        page = await source.fetch(PROBE)
        choice = source.choice if isinstance(source, Auto) else None
    except ShopPollerError as error:
        if error.kind in {ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND}:
            yield Finding("shop", "shop", "answers")
        about = {ErrorKind.AUTHENTICATION: "keys", ErrorKind.NOT_FOUND: "dialect"}.get(error.kind, "shop")
        yield Finding("shop", about, _advised(error, SHOP_ADVICE), ok=False)
        return
    finally:
        await source.aclose()
    yield Finding("shop", "shop", f"answers in {anyio.current_time() - began:.1f} s")
    yield Finding("shop", "keys", "accepted, with the right to view orders")
    dialect = choice.dialect if choice else Dialect(settings.shop_dialect)
    why = choice.why if choice else "SHOP_DIALECT names it"
    yield Finding("shop", "dialect", f"{dialect}: {why}")
    if BLIND_TO[dialect]:
        yield Finding("shop", "dialect", await _blind(settings, dialect))
    ahead_s = (page.shop_time - now()).total_seconds()
    if abs(ahead_s) <= CLOCK_TOLERANCE_S:
        yield Finding("shop", "clocks", "the shop's and ours agree")
    else:
        yield Finding(
            "shop",
            "clocks",
            f"the shop's is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} ours; nothing is"
            " missed, but set both by NTP so that times in messages are right",
        )


async def _blind(settings: Settings, dialect: Dialect) -> str:
    """What a dialect cannot see, and which other one would."""
    others = []
    for other in candidates(settings.woocommerce_mcp_url):
        if BLIND_TO[other] or other is Dialect.EXECUTE:
            continue
        if not settings.proofs.fit(other):
            others.append(f"{other} would, it needs {NEEDS[other]}")
        elif await _answers(settings, other):
            others.append(f"{other} would, and it answers: set SHOP_DIALECT={other}")
    return f"{dialect} cannot see {', '.join(BLIND_TO[dialect])}; {'; '.join(others) or 'no other answers'}"


async def _answers(settings: Settings, dialect: Dialect) -> bool:
    source = open_source(dialect, settings.woocommerce_mcp_url, settings.proofs)
    try:
        await source.fetch(PROBE)
    except ShopPollerError:
        return False
    finally:
        await source.aclose()
    return True


async def _check_state(settings: Settings) -> Finding:
    if isinstance(settings.state, RedisAddress):
        return await _check_redis(settings, settings.state)
    return await _check_file(settings, settings.state)


async def _check_redis(settings: Settings, address: RedisAddress) -> Finding:
    from shop_poller.stores.redis import RedisStore  # noqa: PLC0415 - it is 10 MB

    store = RedisStore(address, prefix=settings.shop_redis_prefix, first_shop=settings.shop)
    try:
        return Finding("state", "state", f"{address.place} {await store.check()}")
    except ShopPollerError as error:
        return Finding("state", "state", str(error), ok=False)
    finally:
        await store.aclose()


async def _check_file(settings: Settings, path: Path) -> Finding:
    if await anyio.Path(path).exists():
        try:
            store = await SqliteStore.peek(path)
            await store.load(settings.shop)
            await store.aclose()
        except ShopPollerError as error:
            return Finding("state", "state", str(error), ok=False)
    nearest = _nearest_existing(path)
    if not os.access(nearest, os.W_OK):
        text = f"{path}: this user may not write to {nearest}; check who owns it, or set SHOP_STATE_URL"
        return Finding("state", "state", text, ok=False)
    free = shutil.disk_usage(nearest).free
    if free < LEAST_FREE_BYTES:
        text = f"{path}: only {free // 2**20} MB free on its disk; free some space"
        return Finding("state", "state", text, ok=False)
    return Finding("state", "state", f"{path} can be written, {free // 2**20:,} MB free")


def _nearest_existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


@asynccontextmanager
async def _sinks(settings: Settings) -> AsyncIterator[list[Sink]]:
    sinks = make_sinks(settings)
    try:
        yield sinks
    finally:
        for sink in sinks:
            await sink.aclose()


async def _send(sink: Sink, delivery: Delivery) -> str:
    await sink.send(delivery)
    return f"took it (event_id {delivery.event_id})"


async def _attempt(sink: Sink, attempt: Callable[[], Awaitable[str]]) -> Finding:
    about = f"sink {sink.name}"
    try:
        with anyio.fail_after(SINK_TIMEOUT_S):
            return Finding("sink", about, await attempt())
    except TimeoutError:
        text = f"no answer within {SINK_TIMEOUT_S:.0f} s; {SINK_ADVICE[ErrorKind.TIMEOUT]}"
        return Finding("sink", about, text, ok=False)
    except ShopPollerError as error:
        return Finding("sink", about, _advised(error, SINK_ADVICE), ok=False)


def _advised(error: ShopPollerError, advice: Mapping[ErrorKind, str]) -> str:
    return f"{error}; {advice[error.kind]}" if error.kind in advice else str(error)
