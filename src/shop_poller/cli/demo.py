"""`demo`: runs the daemon on a simulated shop, in one terminal; leaves no files behind."""

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from shop_poller.cli.language import in_language
from shop_poller.clock import now
from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig
from shop_poller.core.translatable import Text
from shop_poller.runtime import app
from shop_poller.simulator.asgi import create_app
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.simulator.story import Story
from shop_poller.sinks.console import LinePrinter
from shop_poller.sinks.registry import parse_sink
from shop_poller.web.server import listen, serving

TICK_S = 2.0
LOOPBACK = "127.0.0.1"


async def demo(*, locale: str, seconds: float | None) -> OSError | None:
    """Run for some time, or until Ctrl-C.

    Args:
        locale: language of the notifications; the other lines are in the language in use.
        seconds: how long; None for no limit.

    Returns:
        The error, if it ended because standard output could not be written.
    """
    shop = SimulatedShop(now)
    endpoint = Endpoint(shop)
    story = Story(shop, random.Random())  # noqa: S311 - not for secrets
    stop = anyio.Event()
    failures: list[OSError] = []

    def failed(error: OSError) -> None:
        failures.append(error)
        stop.set()

    with tempfile.TemporaryDirectory(prefix="shop-poller-demo-") as directory:
        async with (
            serving(create_app(endpoint), listen(LOOPBACK, 0)) as address,
            anyio.create_task_group() as tasks,
        ):
            shop.url = address
            settings = Settings.of(
                {
                    "woocommerce_mcp_url": endpoint.url,
                    "woocommerce_consumer_key": DEMO_KEY.consumer_key,
                    "woocommerce_consumer_secret": DEMO_KEY.consumer_secret,
                    "shop_id": "demo",
                    "shop_polling_interval": TICK_S,
                    "shop_state_url": f"sqlite:///{Path(directory, 'shop-poller.db')}",
                    "shop_notify_urls": "console:",
                    "shop_http_listen": f"{LOOPBACK}:0",
                    "shop_locale": locale,
                },
                parse_sink=parse_sink,
            )

            def introduce(http: str) -> None:
                introduction = [
                    Text(
                        "A simulated shop runs at {address}; it is polled every {interval:g} s.",
                        address=address,
                        interval=TICK_S,
                    ),
                    Text("Status page: {url}/   Press Ctrl-C to stop.", url=http),
                    Text("Metrics: {url}/metrics   Health: {url}/healthz", url=http),
                    Text("Indented lines are events in the shop; lines with a time are notifications."),
                    "",
                ]
                tasks.start_soon(_tell, introduction, story, failed)

            if seconds is not None:
                tasks.start_soon(_end_after, seconds, stop)
            await app.run(ShopsConfig.of_one(settings), stop=stop, on_listen=introduce)
            tasks.cancel_scope.cancel()
    return failures[0] if failures else None


async def _tell(introduction: Sequence[str], story: Story, failed: Callable[[OSError], None]) -> None:
    """Print what happens in the shop, until standard output is closed (`demo | head`)."""
    printer = LinePrinter()
    try:
        for line in introduction:
            await printer.print(in_language(line))
        while True:
            await printer.print(f"    {in_language(story.step())}")
            await anyio.sleep(story.pause_s)
    except OSError as error:
        failed(error)


async def _end_after(seconds: float, stop: anyio.Event) -> None:
    await anyio.sleep(seconds)
    stop.set()
