"""What `check` asks a shop: whether it answers, in which dialect, what its statuses mean, its clock."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import anyio

from shop_poller.cli.check_result import SHOP_ADVICE, CheckResult, advised
from shop_poller.clock import now
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import AGREE, described
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Order, Page, Query
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import Source
from shop_poller.runtime.factory import (
    make_source,
    shop_credentials,
    status_meanings,
)
from shop_poller.sources.woocommerce import open_source
from shop_poller.sources.woocommerce.answers import RedirectedError
from shop_poller.sources.woocommerce.auto import PROBE, Auto
from shop_poller.sources.woocommerce.dialects import BLIND_TO, NEEDS, Dialect, candidates
from shop_poller.sources.woocommerce.statuses import OWN

CLOCK_TOLERANCE_S = 60.0
RECENT = Query(per_page=100, newest_first=True)
MAX_STATUSES = 10
PAYMENT_DATE = Text("the date of payment")  # as in BLIND_TO


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


async def ask_shop(settings: Settings, *, reads_recent: bool = True) -> ShopAnswer:
    """Ask the shop for orders, as polling does.

    Args:
        settings: as loaded.
        reads_recent: also read the newest orders.

    Raises:
        ShopPollerError: it cannot be polled with these settings.
    """
    source = make_source(settings)
    began = anyio.current_time()
    try:
        page = await (source.probe() if isinstance(source, Auto) else source.fetch(PROBE))
        answered_in_s = anyio.current_time() - began
        choice = source.choice if isinstance(source, Auto) else None
        recent = await _recent(source) if reads_recent else []
    finally:
        await source.aclose()
    dialect = choice.dialect if choice else Dialect(settings.shop_dialect)
    why = choice.why if choice else Text("set by SHOP_DIALECT")
    return ShopAnswer(page, recent, dialect, why, answered_in_s)


async def check_shop(settings: Settings, *, briefly: bool = False) -> AsyncGenerator[CheckResult]:
    """Check the shop, its keys, its dialect, its statuses and its clock.

    Args:
        settings: as loaded.
        briefly: send no requests for what is only advice.
    """
    try:
        answer = await ask_shop(settings, reads_recent=not briefly)
    except ShopPollerError as error:
        if error.kind in {ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND}:
            yield CheckResult("shop", Text("shop"), Text("answers"))
        about = {ErrorKind.AUTHENTICATION: Text("keys"), ErrorKind.NOT_FOUND: Text("dialect")}.get(
            error.kind, Text("shop")
        )
        if isinstance(error, RedirectedError):
            about = Text("address")
        yield CheckResult("shop", about, advised(error, SHOP_ADVICE), ok=False)
        return
    answered = Text("answers in {seconds:.1f} s", seconds=answer.answered_in_s)
    yield CheckResult("shop", Text("shop"), answered)
    yield CheckResult("shop", Text("keys"), Text("accepted, with the right to view orders"))
    dialect = Text("{dialect}: {why}", dialect=answer.dialect, why=answer.why)
    yield CheckResult("shop", Text("dialect"), dialect)
    if BLIND_TO[answer.dialect] and not briefly:
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
    status_count = Text("{status} ({count} of the recent orders)", status=status, count=len(orders))
    if not paid:
        return Text(
            "{status_count} counts as not paid: SHOP_UNPAID_STATUSES names it", status_count=status_count
        )
    unpaid = sum(order.paid_at is None for order in orders)
    if not sees_payment or not unpaid:
        return Text(
            "{status_count} counts as paid; if it is not, name it in SHOP_UNPAID_STATUSES",
            status_count=status_count,
        )
    undated = Text("{count} of them have no date of payment", count=unpaid)
    if unpaid == 1:
        undated = Text("{count} of them has no date of payment", count=unpaid)
    return Text(
        "warning: {status_count} counts as paid, but {undated}; if such orders are not paid, name it in"
        " SHOP_UNPAID_STATUSES",
        status_count=status_count,
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
