"""Renews the leases of many shops together. One by one, renewals would be most of the requests to Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

Run = Callable[[str, Sequence[str], Sequence[str | int]], Awaitable[Any]]

GATHER_S = 0.1
"""How long a renewal waits for others to join it. A lease is renewed every two and a half seconds."""
MOST = 500


class Renewals:
    """Gathers the renewals of stores that share a server.

    It is not used with a Cluster, where each shop has its own slot.

    Args:
        run: runs a script over a connection that no shop closes.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[tuple[str, str, asyncio.Future[list[Any]]]] = []
        self._task: asyncio.Task[None] | None = None  # the task that gathers
        self._tasks: set[asyncio.Task[None]] = set()  # tasks that send: the loop keeps no strong references

    async def renew(self, lease: str, nonce: str, term_ms: int) -> list[Any]:
        """Renew one lease, together with the others that are due now.

        Args:
            lease: the key.
            nonce: our nonce.
            term_ms: the term, the same for all.

        Returns:
            The nonce of the current owner ("" for nobody); the server's clock, seconds and microseconds; and
            when the request was sent, by the monotonic clock.

        Raises:
            TemporaryError: STORE.
        """
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((lease, nonce, future))
        if self._task is None:
            # A separate task: if the first caller is cancelled, the other leases must still be renewed.
            self._task = asyncio.create_task(self._send(term_ms))
            self._tasks.add(self._task)
            self._task.add_done_callback(self._tasks.discard)
        return await future

    async def _send(self, term_ms: int) -> None:
        await anyio.sleep(GATHER_S)
        self._task = None
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            some = waiting[start : start + MOST]
            requested_at = time.monotonic()
            try:
                seconds, micros, *owners = await self._run(
                    "renew", [lease for lease, _, _ in some], [term_ms, *(nonce for _, nonce, _ in some)]
                )
            except Exception as error:  # noqa: BLE001 - the callers get it, or they would wait forever
                for _, _, future in some:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), owner in zip(some, owners, strict=True):
                if not future.done():
                    future.set_result([owner, seconds, micros, requested_at])
