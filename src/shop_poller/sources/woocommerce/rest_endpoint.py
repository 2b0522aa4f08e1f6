"""One endpoint of WooCommerce's REST API: a query is in the address, or in the body if it is long."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx

from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.credentials import basic_key
from shop_poller.sources.woocommerce.dialects import with_keys_read

MAX_URL = 4000
"""Bytes of an address. Depending on their settings, servers refuse addresses from 4 or 8 KB on."""
MAX_IDS_IN_ADDRESS = 49
"""More ids are sent by POST. WooCommerce repeats the address in a response header, with 24 bytes per id, and
an nginx with default settings answers 502 if the headers are longer than 4 KB."""
ACCEPT = {"Accept": "application/json"}


class RestEndpoint:
    """Sends one request at a time. For the errors, see ShopConnection.ask.

    Args:
        url: the endpoint; may contain a query (plain permalinks).
        consumer_key: the key for WooCommerce's REST API, e.g. ck_….
        consumer_secret: its secret, e.g. cs_….
        other_secrets: other secrets that the shop knows and must not show.
    """

    def __init__(
        self, url: str, *, consumer_key: str, consumer_secret: str, other_secrets: Sequence[str] = ()
    ) -> None:
        self._url = with_keys_read(url)
        self._credentials = basic_key(consumer_key, consumer_secret, other_secrets)
        self._connection: ShopConnection | None = None

    def fits_in_address(self, requested: Mapping[str, Any], *, ids: int) -> bool:
        """Return whether servers accept the query in an address, with this number of ids."""
        return ids <= MAX_IDS_IN_ADDRESS and len(self._with(requested)) <= MAX_URL

    async def get(self, requested: Mapping[str, Any]) -> tuple[httpx.Response, bytes]:
        """Ask by GET, in the address."""
        return await self._open().ask("GET", headers=ACCEPT, url=self._with(requested))

    async def post(self, requested: Mapping[str, Any]) -> tuple[httpx.Response, bytes]:
        """Ask by POST, in the body.

        With `_method=GET`, WordPress treats the request as a GET, and it reads a JSON body with any method.
        The override is in the address, because a header may be lost on the way, and a real POST creates an
        order.
        """
        url = self._with({"_method": "GET"})
        return await self._open().ask("POST", headers=ACCEPT, url=url, message=requested)

    async def aclose(self) -> None:
        """Close the connection. The next request opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def _open(self) -> ShopConnection:
        if self._connection is None:
            self._connection = ShopConnection(self._url, self._credentials)
        return self._connection

    def _with(self, requested: Mapping[str, Any]) -> str:
        return f"{self._url}{'&' if '?' in self._url else '?'}{_in_url(requested)}"


def _in_url(requested: Mapping[str, Any]) -> str:
    return urlencode({name: _text(value) for name, value in requested.items()}, safe=",:")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
