"""`demo`: a simulated shop and the real daemon, in one terminal; nothing is left behind."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import anyio

from shop_poller import app
from shop_poller.clock import now
from shop_poller.settings import Settings
from shop_poller.simulator.asgi import create_app
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.simulator.story import Story
from shop_poller.web.server import listen, serving

TICK_S = 2.0
LOOPBACK = "127.0.0.1"


async def demo(*, locale: str, seconds: float | None, say: Callable[[str], None]) -> None:
    """Run until the time is over, or until Ctrl-C.

    Args:
        locale: language of the notifications.
        seconds: how long; None for as long as wanted.
        say: prints a line.
    """
    shop = SimulatedShop(now)
    endpoint = Endpoint(shop)
    story = Story(shop, random.Random())  # noqa: S311 - it tells a story and keeps no secret
    stop = anyio.Event()
    with tempfile.TemporaryDirectory(prefix="shop-poller-demo-") as directory:
        async with (
            serving(create_app(endpoint), listen(LOOPBACK, 0)) as address,
            anyio.create_task_group() as tasks,
        ):
            shop.url = address
            settings = Settings.model_validate(
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
                }
            )

            def introduce(http: str) -> None:
                say(f"A simulated shop is open at {address}; it is asked every {TICK_S:g} s what changed.")
                say(f"Status page: {http}/   Ctrl-C ends it.")
                say(f"Metrics: {http}/metrics   Health: {http}/healthz")
                say("Indented lines are what happens in the shop, lines with a time the notifications.\n")
                tasks.start_soon(_tell, story, say)

            if seconds is not None:
                tasks.start_soon(_end_after, seconds, stop)
            await app.run(settings, stop=stop, on_listen=introduce)
            tasks.cancel_scope.cancel()


async def _tell(story: Story, say: Callable[[str], None]) -> None:
    while True:
        say(f"    {story.step()}")
        await anyio.sleep(story.pause_s)


async def _end_after(seconds: float, stop: anyio.Event) -> None:
    await anyio.sleep(seconds)
    stop.set()
