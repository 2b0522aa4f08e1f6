"""A sink that only this test knows works everywhere: one entry in the registry is all that it takes."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from shop_poller.cli.check import check, notify_test
from shop_poller.config.loader import load
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.sinks import SinkConfig
from shop_poller.core.messages import Renderer
from shop_poller.core.model import Delivery, EventType, Notification
from shop_poller.ports import Sink
from shop_poller.runtime.once import run_once
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.sinks.registry import SINKS, parse_sink
from support.simulated import running_shop

pytestmark = pytest.mark.anyio

CODE = Path(__file__).parents[2] / "src/shop_poller"
PRINTS_LINES = "cli/demo.py"
"""The demo prints what its shop does with the printer of the console; it delivers nothing to it."""
DELIVERED: list[Delivery] = []
PIN = "hunter2-5678"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig(SinkConfig):
    """A pager. Its address is `toy:PIN`."""

    begins = ("toy:",)
    form = "toy:PIN"
    documented_as = "`toy:PIN`"
    delivers_by = "a beep"

    pin: str

    @classmethod
    def parse(cls, address: str) -> Self:
        pin = address.partition(":")[2]
        if not pin:
            raise ValueError("a toy needs a PIN")
        return cls(name="toy", pin=pin)

    @property
    def secrets(self) -> list[str]:
        return [self.pin]

    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:  # noqa: ARG002 - it needs neither
        return Toy()

    def render(self, notification: Notification, write_rich: Renderer) -> str:  # noqa: ARG002 - it is no text for people
        return json.dumps({"beep": notification.title})


class Toy:
    name = "toy"

    async def send(self, delivery: Delivery) -> None:
        DELIVERED.append(delivery)

    async def check(self) -> str:
        return "beeps"

    async def aclose(self) -> None:
        pass


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop_poller.sinks.registry.SINKS", [*SINKS, ToyConfig])
    DELIVERED.clear()


def settings_of(folder: Path, sinks: str, shop: str = "https://shop.example/wp-json/wc/v3") -> Settings:
    return load(
        environ={
            "WOOCOMMERCE_MCP_URL": shop,
            "WOOCOMMERCE_CONSUMER_KEY": DEMO_KEY.consumer_key,
            "WOOCOMMERCE_CONSUMER_SECRET": DEMO_KEY.consumer_secret,
            "SHOP_STATE_URL": f"sqlite:///{folder}/state.db",
            "SHOP_NOTIFY_URLS": sinks,
            "SHOP_LOCALE": "en",
        },
        dotenv=folder / ".env",
        parse_sink=parse_sink,
    )


def test_its_address_is_parsed_with_the_settings_and_its_secret_is_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, f"console: toy:{PIN}")

    assert [sink.name for sink in settings.sinks] == ["console:", "toy"]
    assert PIN in settings.secrets


def test_a_wrong_address_of_it_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(tmp_path, "toy:")
    assert caught.value.problems == ["SHOP_NOTIFY_URLS: a toy needs a PIN"]

    with pytest.raises(SettingsError) as caught:
        settings_of(tmp_path, "ftp://h.example")
    (problem,) = caught.value.problems
    assert problem.startswith("SHOP_NOTIFY_URLS: ftp:// is not a kind of sink. Use http(s)://host/path, ")
    assert problem.endswith(", apprise+ and an Apprise URL, console:, or toy:PIN")


async def test_it_is_checked_and_delivered_to_with_its_own_text(tmp_path: Path) -> None:
    async with running_shop() as running:
        running.shop.create_order("processing")
        settings = settings_of(tmp_path, f"console: toy:{PIN}", running.url)
        checked = {one.about: one.text async for one in check(settings)}
        report = await run_once(settings)

    assert checked["sink toy"] == "beeps"
    assert report.delivered == 2
    (delivery,) = DELIVERED
    assert (delivery.event_type, delivery.body) == (EventType.NEW, '{"beep": "New order"}')


async def test_a_test_notification_reaches_it_too(tmp_path: Path) -> None:
    (result,) = [one async for one in notify_test(settings_of(tmp_path, f"toy:{PIN}"))]

    assert result.ok
    assert [delivery.body for delivery in DELIVERED] == ['{"beep": "Test"}']


def test_nobody_outside_the_sinks_knows_one_of_them() -> None:
    outside = [path for path in CODE.rglob("*.py") if CODE / "sinks" not in path.parents]
    knowing = {
        str(path.relative_to(CODE))
        for path in outside
        if re.search(r"shop_poller\.sinks(?!\.registry import|/)", path.read_text(encoding="utf-8"))
    }
    assert knowing == {PRINTS_LINES}
