"""The simulator as an ASGI application.

The Date header is the shop's own. uvicorn adds another one unless it is configured not to:
`uvicorn.Config(create_app(endpoint), date_header=False, server_header=False)`.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import anyio

from shop_poller.simulator.answers import Answer, Request, page
from shop_poller.simulator.endpoint import Endpoint

MAX_BODY_BYTES = 1_048_576

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Observer: TypeAlias = Callable[[Request, Answer], None]


def create_app(
    endpoint: Endpoint, observe: Observer | None = None
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Make the application.

    Args:
        endpoint: The shop's endpoint.
        observe: Called with every request and its response, before the response is sent.

    Returns:
        The ASGI application. Request bodies of more than 1 MiB are answered with 413.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the simulator does not speak {scope['type']}")
        body = await _read_body(receive)
        if body is None:
            return
        request = _request(scope, body)
        if len(body) > MAX_BODY_BYTES:
            answer = endpoint.dated(page(413, "413", "<h1>413 Request Entity Too Large</h1>"))
        else:
            answer = endpoint.answer(request)
        if observe is not None:
            observe(request, answer)
        if answer.delay_s and await _gone_within(answer.delay_s, receive):
            return
        if answer.cut_after is None:
            await _send(answer, answer.body, send)
        else:
            await _send_and_drop(answer, answer.cut_after, receive, send)

    return app


async def _read_body(receive: Receive) -> bytes | None:
    """Read the body up to the size that is too large; None if the client has left."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def _request(scope: Scope, body: bytes) -> Request:
    return Request(
        method=scope["method"],
        path=scope["path"],
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
        query=scope["query_string"].decode("latin-1"),
        secure=scope["scheme"] == "https",
    )


async def _send(answer: Answer, body: bytes, send: Send, *, more: bool = False) -> None:
    headers = {**answer.headers, "Content-Length": str(len(answer.body))}
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _send_and_drop(answer: Answer, cut_after: int, receive: Receive, send: Send) -> None:
    if cut_after:
        await _send(answer, answer.body[:cut_after], send, more=True)
    # ASGI cannot close a connection. uvicorn's `receive` belongs to an object that holds the transport.
    # Under another server the application just ends here, and that server closes the connection.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


async def _gone_within(delay_s: float, receive: Receive) -> bool:
    with anyio.move_on_after(delay_s):
        while (await receive())["type"] != "http.disconnect":
            pass
        return True
    return False
