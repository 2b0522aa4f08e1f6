"""`check` and `notify-test`: one line per thing that was checked, with what to do if it failed."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from shop_poller.clock import now
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import AGREE, Whose, described, trouble
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.messages import sample_notification
from shop_poller.core.model import Delivery, Order, Page, Query
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import ShopState, Sink, Source
from shop_poller.runtime.exposure import exposed, summary
from shop_poller.runtime.factory import (
    make_message_format,
    make_sinks,
    make_source,
    shop_credentials,
    status_meanings,
)
from shop_poller.runtime.message_templates import load_templates
from shop_poller.sources.woocommerce import open_source
from shop_poller.sources.woocommerce.answers import RedirectedError
from shop_poller.sources.woocommerce.auto import PROBE, Auto
from shop_poller.sources.woocommerce.dialects import BLIND_TO, NEEDS, Dialect, candidates
from shop_poller.sources.woocommerce.statuses import OWN
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.sqlite.file import check_lock, explain

CLOCK_TOLERANCE_S = 60.0
LEAST_FREE_MB = 100
SINK_TIMEOUT_S = 10.0
STATE = Text("state")
RECENT = Query(per_page=100, newest_first=True)
MAX_STATUSES = 10
PAYMENT_DATE = Text("the date of payment")  # as in BLIND_TO

SHOP_ADVICE = {
    ErrorKind.CONNECTION: Text("check WOOCOMMERCE_MCP_URL, and whether this machine can reach the shop"),
    ErrorKind.TIMEOUT: Text("check whether the shop's own pages are slow too"),
    ErrorKind.RATE_LIMIT: Text("wait a few minutes; if it lasts, ask the operator of the shop's server"),
}
"""What to do about errors whose text has no advice, because a tick retries them."""

SINK_ADVICE = {
    ErrorKind.CONNECTION: Text("check its address in SHOP_NOTIFY_URLS, and whether it runs"),
    ErrorKind.TIMEOUT: Text("check whether it is overloaded or behind a firewall"),
    ErrorKind.RATE_LIMIT: Text("wait a few minutes; deliveries wait automatically"),
    ErrorKind.UNAVAILABLE: Text("check whether it works, and whether its address is right"),
    ErrorKind.SERVER: Text("check its log"),
    ErrorKind.REJECTED: Text("check its address in SHOP_NOTIFY_URLS, and its log"),
    ErrorKind.GONE: Text("remove it from SHOP_NOTIFY_URLS"),
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        part: settings, shop, state or sink; decides the exit code.
        about: what was checked.
        text: what was found, and what to do if it is a problem.
        ok: False if the daemon cannot work with this result.
    """

    part: str
    about: str
    text: str
    ok: bool = True

    def line(self) -> str:
        """Return the result for people, without its mark."""
        return Text("{about}: {text}", about=self.about, text=self.text)


async def check(settings: Settings, files: Sequence[Path] = ()) -> AsyncIterator[CheckResult]:
    """Check everything that the daemon needs, except its templates; changes nothing.

    Args:
        settings: as loaded.
        files: the files that secrets or settings were read from.
    """
    text: str = Text(
        "shop {shop}, every {interval:g} s, {sinks} sink(s)",
        shop=settings.shop,
        interval=settings.shop_polling_interval,
        sinks=len(settings.sinks),
    )
    yield CheckResult("settings", Text("settings"), text)
    loaded = load_templates(settings)
    if loaded is not None:  # the command has checked them before
        text = Text(
            "{count} in {where} write every example",
            count=len(loaded.texts.texts),
            where=loaded.texts.directory or Text("the settings"),
        )
        yield CheckResult("settings", Text("templates"), text)
    shown = sum(sink.shows_secret for sink in settings.sinks)
    if shown:
        text = Text(
            "{count} sink(s) in SHOP_NOTIFY_URLS with a path that looks like a secret; log, metrics and page"
            " show it as the sink's name: end the address with #name",
            count=shown,
        )
        yield CheckResult("settings", Text("settings"), text)
    async for finding in _check_shop(settings):
        yield finding
    yield await _check_state(settings)
    for line in summary(exposed([settings], files)):
        yield CheckResult("state", Text("permissions"), Text("warning: {problem}", problem=line))
    async with _sinks(settings) as sinks:
        for sink in sinks:
            yield await _attempt(sink, sink.check)


async def notify_test(settings: Settings) -> AsyncIterator[CheckResult]:
    """Send one test notification to every sink."""
    message_format = make_message_format(settings)
    notification = sample_notification(message_format, now=now())
    async with _sinks(settings) as sinks:
        for sink in sinks:
            body = message_format.render(sink.name, notification)
            delivery = Delivery.unstored(notification, shop_id=settings.shop, sink=sink.name, body=body)
            yield await _attempt(sink, partial(_send, sink, delivery))


@dataclass(frozen=True, slots=True)
class ShopAnswer:
    """What a shop answered to a probe.

    Attributes:
        page: the answer.
        recent: the newest orders; none if the shop cannot return that many at once.
        dialect: how it was asked.
        why: why in this dialect.
        answered_in_s: how long it took.
    """

    page: Page
    recent: Sequence[Order]
    dialect: Dialect
    why: str
    answered_in_s: float


async def ask_shop(settings: Settings) -> ShopAnswer:
    """Ask the shop for orders, as polling does.

    Raises:
        ShopPollerError: it cannot be polled with these settings.
    """
    source = make_source(settings)
    began = anyio.current_time()
    try:
        page = await source.fetch(PROBE)
        answered_in_s = anyio.current_time() - began
        choice = source.choice if isinstance(source, Auto) else None
        recent = await _recent(source)
    finally:
        await source.aclose()
    dialect = choice.dialect if choice else Dialect(settings.shop_dialect)
    why = choice.why if choice else Text("set by SHOP_DIALECT")
    return ShopAnswer(page, recent, dialect, why, answered_in_s)


async def _check_shop(settings: Settings) -> AsyncIterator[CheckResult]:
    try:
        answer = await ask_shop(settings)
    except ShopPollerError as error:
        if error.kind in {ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND}:
            yield CheckResult("shop", Text("shop"), Text("answers"))
        about = {ErrorKind.AUTHENTICATION: Text("keys"), ErrorKind.NOT_FOUND: Text("dialect")}.get(
            error.kind, Text("shop")
        )
        if isinstance(error, RedirectedError):
            about = Text("address")
        yield CheckResult("shop", about, _advised(error, SHOP_ADVICE), ok=False)
        return
    answered = Text("answers in {seconds:.1f} s", seconds=answer.answered_in_s)
    yield CheckResult("shop", Text("shop"), answered)
    yield CheckResult("shop", Text("keys"), Text("accepted, with the right to view orders"))
    dialect = Text("{dialect}: {why}", dialect=answer.dialect, why=answer.why)
    yield CheckResult("shop", Text("dialect"), dialect)
    if BLIND_TO[answer.dialect]:
        yield CheckResult("shop", Text("dialect"), await _blind(settings, answer.dialect))
    sees_payment = PAYMENT_DATE not in BLIND_TO[answer.dialect]
    for text in custom_statuses(answer.recent, settings, sees_payment=sees_payment):
        yield CheckResult("shop", Text("statuses"), text)
    yield CheckResult("shop", Text("clocks"), _clocks((answer.page.shop_time - now()).total_seconds()))


def _clocks(ahead_s: float) -> str:
    """Describe how far the shop's clock is ahead of ours."""
    if abs(ahead_s) <= CLOCK_TOLERANCE_S:
        return Text("the shop's and ours agree")
    by = described(ahead_s)
    side = Text("the shop's is {by} ahead of ours", by=by)
    if ahead_s <= 0:
        side = Text("the shop's is {by} behind ours", by=by)
    text = Text(
        "{side}; nothing is missed, but set both by NTP so that times in messages are right", side=side
    )
    if abs(ahead_s) <= AGREE.total_seconds():
        return text
    return Text("{text}; nothing old is dropped from the state until then", text=text)


async def _recent(source: Source) -> list[Order]:
    """Return the newest orders; none if the shop cannot return that many at once."""
    try:
        return (await source.fetch(RECENT)).orders
    except ShopPollerError:
        return []


def custom_statuses(orders: Sequence[Order], settings: Settings, *, sees_payment: bool) -> list[str]:
    """Describe whether each custom status counts as paid, one line per status.

    Args:
        orders: the recent orders.
        settings: as loaded.
        sees_payment: whether the dialect shows when an order was paid.
    """
    meanings = status_meanings(settings)
    by_status: dict[str, list[Order]] = {}
    for order in orders:
        if order.status not in OWN:
            by_status.setdefault(order.status, []).append(order)
    return [
        _custom_status(status, found, paid=meanings.is_paid(status), sees_payment=sees_payment)
        for status, found in sorted(by_status.items())[:MAX_STATUSES]
    ]


def _custom_status(status: str, orders: Sequence[Order], *, paid: bool, sees_payment: bool) -> str:
    seen = Text("{status} ({count} of the recent orders)", status=status, count=len(orders))
    if not paid:
        return Text("{seen} counts as not paid: SHOP_UNPAID_STATUSES names it", seen=seen)
    unpaid = sum(order.paid_at is None for order in orders)
    if not sees_payment or not unpaid:
        return Text("{seen} counts as paid; if it is not, name it in SHOP_UNPAID_STATUSES", seen=seen)
    undated = Text("{count} of them have no date of payment", count=unpaid)
    if unpaid == 1:
        undated = Text("{count} of them has no date of payment", count=unpaid)
    return Text(
        "warning: {seen} counts as paid, but {undated}; if such orders are not paid, name it in"
        " SHOP_UNPAID_STATUSES",
        seen=seen,
        undated=undated,
    )


async def _blind(settings: Settings, dialect: Dialect) -> str:
    """Describe what a dialect cannot see, and which other dialect can."""
    others: list[str] = []
    for other in candidates(settings.woocommerce_mcp_url):
        if BLIND_TO[other] or other is Dialect.EXECUTE:
            continue
        if not shop_credentials(settings).fit(other):
            others.append(Text("{dialect} can, but needs {keys}", dialect=other, keys=NEEDS[other]))
        elif await _answers(settings, other):
            others.append(Text("{dialect} can, and answers: set SHOP_DIALECT={dialect}", dialect=other))
    return Text(
        "{dialect} cannot see {blind_to}; {others}",
        dialect=dialect,
        blind_to=joined(", ", BLIND_TO[dialect]),
        others=joined("; ", others) if others else Text("no other answers"),
    )


async def _answers(settings: Settings, dialect: Dialect) -> bool:
    source = open_source(dialect, settings.woocommerce_mcp_url, shop_credentials(settings))
    try:
        await source.fetch(PROBE)
    except ShopPollerError:
        return False
    finally:
        await source.aclose()
    return True


async def _check_state(settings: Settings) -> CheckResult:
    if isinstance(settings.state, RedisAddress):
        return await _check_redis(settings, settings.state)
    return await _check_file(settings, settings.state)


async def _check_redis(settings: Settings, address: RedisAddress) -> CheckResult:
    from shop_poller.stores.redis import RedisStore  # noqa: PLC0415 - it is 10 MB

    store = RedisStore(address, prefix=settings.shop_redis_prefix, first_shop=settings.shop)
    try:
        found = Text("{address} {finding}", address=address.shown, finding=await store.check())
        off_s = (store.now() - now()).total_seconds()
        if abs(off_s) > CLOCK_TOLERANCE_S:
            by = described(off_s)
            side = Text("{by} ahead of ours", by=by) if off_s > 0 else Text("{by} behind ours", by=by)
            found = Text(
                "{found}; its clock, which dates what is stored, is {side}: set both by NTP",
                found=found,
                side=side,
            )
        return CheckResult("state", STATE, found)
    except ShopPollerError as error:
        return CheckResult("state", STATE, error.text, ok=False)
    finally:
        await store.aclose()


async def _check_file(settings: Settings, path: Path) -> CheckResult:
    state: ShopState | None = None
    if await anyio.Path(path).exists():
        try:
            store = await SqliteStore.peek(path)
            state = await store.load(settings.shop)
            await store.aclose()
        except ShopPollerError as error:
            return CheckResult("state", STATE, error.text, ok=False)
    try:
        check_lock(path)
    except PermanentError as error:
        return CheckResult("state", STATE, error.text, ok=False)
    except OSError as error:
        return CheckResult("state", STATE, explain(error, path), ok=False)
    nearest = _nearest_existing(path)
    if not os.access(nearest, os.W_OK):
        text = Text(
            "{path}: this user may not write to {nearest}; check who owns it, or set SHOP_STATE_URL",
            path=path,
            nearest=nearest,
        )
        return CheckResult("state", STATE, text, ok=False)
    free_mb = shutil.disk_usage(nearest).free // 2**20
    if free_mb < LEAST_FREE_MB:
        text = Text("{path}: only {free} MB free on its disk; free some space", path=path, free=free_mb)
        return CheckResult("state", STATE, text, ok=False)
    stored = [state.last_poll_at] if state is not None else []
    clock = trouble(Whose.OURS, now=now(), behind_shop_s=None, stored=stored)
    text = Text("{path} can be written, {free:,} MB free", path=path, free=free_mb)
    return CheckResult("state", STATE, joined("; ", [text, clock.text()]) if clock else text)


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
    return Text("accepted it (event_id {event_id})", event_id=delivery.event_id)


async def _attempt(sink: Sink, attempt: Callable[[], Awaitable[str]]) -> CheckResult:
    about = Text("sink {sink}", sink=sink.name)
    try:
        with anyio.fail_after(SINK_TIMEOUT_S):
            return CheckResult("sink", about, await attempt())
    except TimeoutError:
        text = Text(
            "no answer within {seconds:.0f} s; {advice}",
            seconds=SINK_TIMEOUT_S,
            advice=SINK_ADVICE[ErrorKind.TIMEOUT],
        )
        return CheckResult("sink", about, text, ok=False)
    except ShopPollerError as error:
        return CheckResult("sink", about, _advised(error, SINK_ADVICE), ok=False)


def _advised(error: ShopPollerError, advice: Mapping[ErrorKind, str]) -> str:
    if error.kind not in advice or (isinstance(error, TemporaryError) and error.has_advice):
        return error.text
    # A text that ends with a full stop ends with the words of the peer.
    problem = error.text.rstrip(".") if error.text.endswith(".") else error.text
    return Text("{problem}; {advice}", problem=problem, advice=advice[error.kind])
