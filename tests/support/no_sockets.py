"""An HTTP client whose other end is the simulator; and small pages, for many of them from few orders."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anyio
import httpx

from shop_poller.core import cursor, import_walk
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.routes import asks_for_orders


async def requested(request: httpx.Request) -> Request:
    """A client's request, as the shop sees it."""
    return Request(
        method=request.method,
        path=request.url.path,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.aread(),
        query=request.url.query.decode(),
        secure=request.url.scheme == "https",
    )


async def given(answer: Answer) -> httpx.Response:
    """The shop's answer, as the client sees it, after the time that it takes."""
    if answer.delay_s:
        await anyio.sleep(answer.delay_s)
    if answer.cut_after is not None:
        raise httpx.RemoteProtocolError("made up: the connection broke off")
    return httpx.Response(answer.status, headers=dict(answer.headers), stream=httpx.ByteStream(answer.body))


class Wire(httpx.AsyncBaseTransport):
    """Carries a request to the shop and its answer back, in no time unless a fault takes some.

    Args:
        endpoint: the shop's.
        on_question: called before the shop looks for orders.
    """

    def __init__(self, endpoint: Endpoint, on_question: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._on_question = on_question

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        question = await requested(request)
        if asks_for_orders(question):
            self._on_question()
        return await given(self._endpoint.answer(question))


def wire_to(endpoint: Endpoint, on_question: Callable[[], None], _: str) -> Wire:
    """In place of httpclient.http_transport."""
    return Wire(endpoint, on_question)


@contextmanager
def small_pages(per_page: int) -> Iterator[None]:
    """Ask for so many orders at once instead of a hundred; one that vanishes still does not end a list.

    A search for the order that spoils a page leaves out fewer ids at once, too.
    """

    def small(make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: replace(make(*args, **kwargs), per_page=per_page)

    with ExitStack() as stack:
        for target, value in (
            ("core.cursor.start", small(cursor.start)),
            ("core.cursor.created_walk", small(cursor.created_walk)),
            ("core.import_walk.import_query", small(import_walk.import_query)),
            ("polling.sweeper.MAX_PER_PAGE", per_page),
            ("polling.page_fetcher.MAX_PER_PAGE", per_page),
            ("sources.woocommerce.poison.WINDOW", 100),
            ("sources.woocommerce.poison.AHEAD", 250),
            ("sources.woocommerce.poison.FARTHEST", 4750),
        ):
            stack.enter_context(patch(f"shop_poller.{target}", value))
        yield
