"""`check` and `notify-test`: one line per thing that was checked, with what to do if it failed."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

from shop_poller.cli.check_result import SINK_ADVICE, CheckResult, advised
from shop_poller.cli.check_shop import check_shop
from shop_poller.cli.check_state import check_state
from shop_poller.clock import now
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.messages import sample_notification
from shop_poller.core.model import Delivery
from shop_poller.core.showing import before_colon
from shop_poller.core.translatable import Text
from shop_poller.ports import Sink
from shop_poller.runtime.exposure import exposed, summary
from shop_poller.runtime.factory import (
    make_message_format,
    make_sinks,
)
from shop_poller.runtime.message_templates import load_templates

SINK_TIMEOUT_S = 10.0


MOST_NAMED = 10


async def check(
    settings: Settings, files: Sequence[Path] = (), ignored: Sequence[str] = (), *, briefly: bool = False
) -> AsyncGenerator[CheckResult]:
    """Check everything that the daemon needs, except its templates; changes nothing.

    Args:
        settings: as loaded.
        files: the files that secrets or settings were read from.
        ignored: see ShopsConfig.
        briefly: send no requests for what is only advice.
    """
    text: str = Text(
        "shop {shop}, every {interval:g} s, {sinks} sink(s)",
        shop=settings.shop,
        interval=settings.shop_polling_interval,
        sinks=len(settings.sinks),
    )
    yield CheckResult("settings", Text("settings"), text)
    if ignored:
        yield CheckResult("settings", Text("settings"), ignored_variables(ignored))
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
    async with aclosing(check_shop(settings, briefly=briefly)) as findings:
        async for finding in findings:
            yield finding
    yield await check_state(settings)
    for line in summary(exposed([settings], files)):
        yield CheckResult("state", Text("permissions"), Text("warning: {problem}", problem=line))
    async with _sinks(settings) as sinks:
        for sink in sinks:
            yield await _attempt(sink, sink.check)


def ignored_variables(names: Sequence[str]) -> str:
    """Return the warning about variables that may be meant as settings."""
    more = ", …" if len(names) > MOST_NAMED else ""
    return Text(
        "warning: variables that are no settings are ignored: {names}",
        names=", ".join(names[:MOST_NAMED]) + more,
    )


async def notify_test(settings: Settings) -> AsyncGenerator[CheckResult]:
    """Send one test notification to every sink."""
    message_format = make_message_format(settings)
    notification = sample_notification(message_format, now=now())
    async with _sinks(settings) as sinks:
        for sink in sinks:
            body = message_format.render(sink.name, notification)
            delivery = Delivery.unstored(notification, shop_id=settings.shop, sink=sink.name, body=body)
            yield await _attempt(sink, partial(_send, sink, delivery))


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
    about = Text("sink {sink}", sink=before_colon(sink.name))
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
        return CheckResult("sink", about, advised(error, SINK_ADVICE), ok=False)
