"""Receives a key from the shop: its owner approves a link, and WooCommerce sends the key to us.

The link is WooCommerce's `/wc-auth/v1/authorize`. The path of our address is random.
Only the shop knows it.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hmac import compare_digest
from urllib.parse import urlencode

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shop_poller.cli.setup_answers import WrongAnswerError, consumer_key, consumer_secret
from shop_poller.web.requests import MAX_BODY, READ_S, read_body
from shop_poller.web.server import listen, serving

AUTHORIZE = "/wc-auth/v1/authorize"
APP_NAME = "shop-poller"
READS = frozenset({"read", "read_write"})
PROGRESS_S = 5.0
THANKS_S = 5.0


@dataclass(frozen=True, slots=True)
class ConsumerKeys:
    """A consumer key and its secret."""

    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)


class KeyLink:
    """One link, and the keys that arrive by it.

    Args:
        base: the public https address that leads to our listener.
        thanks: the text of the page to which the shop returns the browser.
    """

    def __init__(self, base: str, *, thanks: str) -> None:
        self._path = f"/setup/{secrets.token_urlsafe(24)}"
        self._user_id = secrets.token_urlsafe(24)
        self._base = base
        self._thanks = thanks
        self._arrived = anyio.Event()
        self._thanked = anyio.Event()
        self._keys: ConsumerKeys | None = None

    def url(self, site: str) -> str:
        """Return the link.

        Args:
            site: the address of the shop's pages, without a slash at its end.
        """
        ours = f"{self._base}{self._path}"
        query = {
            "app_name": APP_NAME,
            "scope": "read",
            "user_id": self._user_id,
            "return_url": ours,
            "callback_url": ours,
        }
        return f"{site}{AUTHORIZE}?{urlencode(query)}"

    async def receive(
        self, host: str, port: int, *, within_s: float, show_progress: Callable[[], None]
    ) -> ConsumerKeys | None:
        """Listen until the keys arrive; return None if they do not.

        Args:
            host: where to listen.
            port: where to listen.
            within_s: how long.
            show_progress: called every few seconds.

        Raises:
            OSError: it cannot listen there; one line says what to do.
        """
        app = Starlette(
            routes=[
                Route(self._path, self._take, methods=["POST"]),
                Route(self._path, self._thank, methods=["GET"]),
            ]
        )
        with closing(listen(host, port)) as listener, anyio.move_on_after(within_s):
            async with serving(app, listener), anyio.create_task_group() as tasks:
                tasks.start_soon(_repeat, show_progress)
                await self._arrived.wait()
                with anyio.move_on_after(THANKS_S):  # next, the shop sends the browser to our page
                    await self._thanked.wait()
                tasks.cancel_scope.cancel()
        return self._keys

    async def _thank(self, _: Request) -> Response:
        self._thanked.set()
        return PlainTextResponse(self._thanks)

    async def _take(self, request: Request) -> Response:
        """Take the keys. WooCommerce deletes a key for which it receives anything but 200."""
        try:
            with anyio.fail_after(READ_S):
                body = await read_body(request, MAX_BODY)
        except (TimeoutError, ClientDisconnect):
            return PlainTextResponse("too slow", 408)
        if body is None:
            return PlainTextResponse("too large", 413)
        keys = self._read(body)
        if keys is None:
            return PlainTextResponse("not what was expected", 400)
        if self._keys is not None:  # only the first key is used; the shop deletes any other
            return PlainTextResponse("there is a key already", 409)
        self._keys = keys
        self._arrived.set()
        return PlainTextResponse("ok")

    def _read(self, body: bytes) -> ConsumerKeys | None:
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(sent, dict) or sent.get("key_permissions") not in READS:
            return None
        if not compare_digest(str(sent.get("user_id")).encode(), self._user_id.encode()):
            return None
        try:
            return ConsumerKeys(
                consumer_key(str(sent.get("consumer_key"))), consumer_secret(str(sent.get("consumer_secret")))
            )
        except WrongAnswerError:
            return None


async def _repeat(show_progress: Callable[[], None]) -> None:
    while True:
        await anyio.sleep(PROGRESS_S)
        show_progress()
