"""What the tests of sinks share: a delivery, how it fails, and how long anything may take."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from shop_poller.core.errors import PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.signature import signing_keys
from shop_poller.ports import Sink
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.sink import HttpSink
from support.deliveries import delivery

PASSWORD = "hunter2"
SOON_S = 0.05
"""A time-out in tests of time-outs."""
IN_TIME_S = 5.0
"""What takes milliseconds may take this long on a busy machine."""
URL = "https://h.example/api/v1/notifications/webhook"
DELIVERY = delivery()


async def failure(sink: Sink, tell: Delivery = DELIVERY) -> ShopPollerError:
    """The error with which a delivery fails, within the time that one may take."""
    with anyio.fail_after(IN_TIME_S), pytest.raises((TemporaryError, PermanentError)) as caught:
        await sink.send(tell)
    return caught.value


@asynccontextmanager
async def http_sink(url: str = URL, *, secret: str | None = None) -> AsyncIterator[HttpSink]:
    """A sink, until the block ends."""
    sink = HttpSink(HttpConfig.parse(url), keys=signing_keys(secret) if secret else ())
    try:
        yield sink
    finally:
        await sink.aclose()
