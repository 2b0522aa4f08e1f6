"""A small HTTP/1.1 server, much cheaper than what is measured with it. It runs in a process of its own."""

import asyncio
import re
from collections.abc import Callable

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"

Answer = Callable[[str, str, bytes], bytes]
"""Takes method, target and body; returns all of the response."""


class HttpProtocol(asyncio.Protocol):
    """One connection, kept alive; requests in a row are answered in a row."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a socket has
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while (end := self._received.find(HEAD_END)) >= 0:
            head = bytes(self._received[:end])
            length = LENGTH.search(head)
            size = end + len(HEAD_END) + (int(length[1]) if length else 0)
            if len(self._received) < size:
                return
            body = bytes(self._received[end + len(HEAD_END) : size])
            del self._received[:size]
            method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
            if self._transport is not None:
                self._transport.write(self._answer(method, target, body))


def response(body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole response; the headers end with a line break each."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


async def serve(answer: Answer) -> asyncio.Server:
    """Listen on a free port of loopback, and print it for whoever started the process."""
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(answer), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    return server
