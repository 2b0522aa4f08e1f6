"""One endpoint of WooCommerce's REST API: what is asked stands in the address, or is posted if it is long."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx

from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.credentials import basic_key
from shop_poller.sources.woocommerce.dialects import with_keys_read

MAX_URL = 4000
"""Bytes; servers refuse longer ones from 4 or 8 KB on, by their own settings."""
MAX_IDS_IN_ADDRESS = 49
"""More are posted: WooCommerce repeats the address in a header of its answer, with 24 bytes for each id, and
a stock nginx answers 502 once its headers are longer than 4 KB."""
ACCEPT = {"Accept": "application/json"}


class RestEndpoint:
    """Asks one question at a time; for the errors see Connection.ask.

    Args:
        url: the endpoint; may have a query (plain permalinks).
        consumer_key: of WooCommerce's REST API, e.g. ck_….
        consumer_secret: likewise, cs_….
        also: other secrets that the shop knows.
    """

    def __init__(
        self, url: str, *, consumer_key: str, consumer_secret: str, also: Sequence[str] = ()
    ) -> None:
        self._url = with_keys_read(url)
        self._credentials = basic_key(consumer_key, consumer_secret, also)
        self._connection: ShopConnection | None = None

    def fits_in_address(self, requested: Mapping[str, Any], *, ids: int) -> bool:
        """Whether servers let the question pass as an address, with so many ids in it."""
        return ids <= MAX_IDS_IN_ADDRESS and len(self._with(requested)) <= MAX_URL

    async def get(self, requested: Mapping[str, Any]) -> tuple[httpx.Response, bytes]:
        """Ask by GET, in the address."""
        return await self._open().ask("GET", headers=ACCEPT, url=self._with(requested))

    async def post(self, requested: Mapping[str, Any]) -> tuple[httpx.Response, bytes]:
        """Ask by POST, in the body.

        A GET all the same, says WordPress, and reads a JSON body whatever the method is. It is said in the
        address: a header may get lost on the way, and a POST that is one would make an order.
        """
        url = self._with({"_method": "GET"})
        return await self._open().ask("POST", headers=ACCEPT, url=url, message=requested)

    async def aclose(self) -> None:
        """Close the connection; the next question opens another."""
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
