"""Reads what is sent to us, up to a bound."""

from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes | None:
    """The body; None if it has more bytes than that, of which no more is read.

    Raises:
        ClientDisconnect: it ended before its end.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            return None
        body += chunk
    return bytes(body)
