"""Counts what arrives, by webhook or by Redis Pub/Sub, and when: its own process, its CPU is nobody's.

POST /…      a webhook          POST /reset   count anew          GET /stats   {count, first, last}
"""

import argparse
import asyncio
import json
import time

import hiredis

from benchmarks.http import response, serve

CHANNEL = "notification:events"
TAKEN = response(b'{"ok":true}')


class Tally:
    """How many came.

    Attributes:
        count: since the last reset.
        first: when the first of them came, by the machine's monotonic clock.
        last: likewise.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count anew."""
        self.count, self.first, self.last = 0, 0.0, 0.0

    def add(self) -> None:
        """One more."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.count += 1

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        """Take a webhook, or say how many there were."""
        del body
        if method == "GET":
            return response(json.dumps(vars(self)).encode())
        if target == "/reset":
            self.reset()
        else:
            self.add()
        return TAKEN


class Subscriber(asyncio.Protocol):
    """Listens to the channel."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Subscribe."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a socket has
        transport.write(f"SUBSCRIBE {CHANNEL}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Count messages."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, list) and reply[0] == b"message":
                self._tally.add()


async def main() -> None:
    """Run until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", type=int, help="port of the server to subscribe at")
    port: int | None = parser.parse_args().redis
    tally = Tally()
    if port is not None:
        await asyncio.get_running_loop().create_connection(lambda: Subscriber(tally), "127.0.0.1", port)
    server = await serve(tally.answer)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
