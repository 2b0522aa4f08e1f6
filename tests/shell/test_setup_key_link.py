"""A key that the shop sends by itself: WooCommerce's `/wc-auth/v1/authorize`."""

import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.lowlevel
import httpx
import pytest

from shop_poller.cli.setup_key_link import ConsumerKeys, KeyLink
from support.receivers import reserved_port

pytestmark = pytest.mark.anyio

KEY, SECRET = "ck_" + "5eed" * 10, "cs_" + "ca11" * 10
BASE = "https://poller.example/hooks"


class FakeShop:
    """What WooCommerce does with a link once its owner has approved it.

    Args:
        url: the link.
        port: where the owner's proxy sends what arrives at the public address.
    """

    def __init__(self, url: str, port: int) -> None:
        self.url = urlsplit(url)
        self.query = dict(parse_qsl(self.url.query))
        callback = self.query["callback_url"]
        assert callback.startswith(f"{BASE}/")
        self.callback = f"http://127.0.0.1:{port}{callback.removeprefix(BASE)}"

    def key(self, **changes: object) -> dict[str, object]:
        return {
            "key_id": 1,
            "user_id": self.query["user_id"],
            "consumer_key": KEY,
            "consumer_secret": SECRET,
            "key_permissions": "read",
            **changes,
        }

    async def send(self, body: object) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json;charset=UTF-8", "Host": "poller.example"}
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(self.callback, content=content, headers=headers)

    async def go_back(self) -> httpx.Response:
        """The browser, which the shop sends to return_url."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(self.callback, params={"success": 1, "user_id": self.query["user_id"]})


async def approved(
    approve: Callable[[FakeShop], Awaitable[Any]], *, within_s: float = 10.0
) -> ConsumerKeys | None:
    """The keys that arrive while an owner approves a link."""
    found: list[ConsumerKeys | None] = []
    link = KeyLink(BASE, thanks="thank you")
    with reserved_port() as port:
        shop = FakeShop(link.url("https://shop.example"), port)

        async def receive() -> None:
            found.append(await link.receive("127.0.0.1", port, within_s=within_s, show_progress=lambda: None))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.lowlevel.checkpoint()  # it listens before the first await
            await approve(shop)
    return found[0]


async def test_the_link_asks_to_read_and_names_no_secret_twice() -> None:
    urls = [urlsplit(KeyLink(BASE, thanks="").url("https://shop.example/blog")) for _ in range(2)]
    queries = [dict(parse_qsl(url.query)) for url in urls]
    assert (urls[0].netloc, urls[0].path) == ("shop.example", "/blog/wc-auth/v1/authorize")
    assert (queries[0]["app_name"], queries[0]["scope"]) == ("shop-poller", "read")
    for name in ("user_id", "callback_url"):
        assert queries[0][name] != queries[1][name]
        assert len(queries[0][name].removeprefix(BASE)) >= 32
    assert queries[0]["return_url"].startswith("https://")


async def test_the_key_arrives_and_the_browser_is_thanked() -> None:
    async def approve(shop: FakeShop) -> None:
        assert (await shop.send(shop.key())).status_code == 200
        page = await shop.go_back()
        assert (page.status_code, page.text) == (200, "thank you")

    keys = await approved(approve)
    assert keys == ConsumerKeys(KEY, SECRET)
    assert SECRET not in repr(keys)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"user_id": "somebody"}, 400),
        ({"user_id": None}, 400),
        ({"key_permissions": "write"}, 400),
        ({"consumer_key": SECRET}, 400),
        ({"consumer_secret": None}, 400),
        ({"padding": "x" * 5000}, 413),
    ],
)
async def test_anything_else_is_refused_and_the_key_is_still_waited_for(
    changes: dict[str, object], status: int
) -> None:
    async def approve(shop: FakeShop) -> None:
        assert (await shop.send(shop.key(**changes))).status_code == status
        assert (await shop.send(b"{" * 3000)).status_code == 400
        assert (await shop.send([])).status_code == 400
        shop.callback += "x"
        assert (await shop.send(shop.key())).status_code == 404
        shop.callback = shop.callback[:-1]
        assert (await shop.send(shop.key(key_permissions="read_write"))).status_code == 200
        await shop.go_back()

    assert await approved(approve) == ConsumerKeys(KEY, SECRET)


async def test_only_the_first_key_is_taken() -> None:
    async def approve(shop: FakeShop) -> None:
        assert (await shop.send(shop.key())).status_code == 200
        other = shop.key(consumer_key="ck_" + "0bad" * 10)
        assert (await shop.send(other)).status_code == 409
        await shop.go_back()

    assert await approved(approve) == ConsumerKeys(KEY, SECRET)


async def test_without_a_key_it_ends() -> None:
    async def ignore(_: FakeShop) -> None:
        pass

    assert await approved(ignore, within_s=0.05) is None


async def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use by another program"):
            await KeyLink(BASE, thanks="").receive("127.0.0.1", port, within_s=5, show_progress=lambda: None)
