"""Reads request bodies, up to a bound."""

from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the body; None if it is longer than the limit. The rest is not read.

    Raises:
        ClientDisconnect: the connection ended before the body.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            return None
        body += chunk
    return bytes(body)
