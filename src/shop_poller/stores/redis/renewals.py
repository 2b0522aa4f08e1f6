"""Renews the leases of many shops together: one by one that would be most of what Redis is asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

Run = Callable[[str, Sequence[str], Sequence[str | int]], Awaitable[Any]]

GATHER_S = 0.1
"""How long a renewal waits for others to go with; of the two and a half seconds between two."""
MOST = 500


class Renewals:
    """Gathers renewals; for stores that share a server, not a Cluster, where each shop has its own slot.

    Args:
        run: runs a script, by a connection that no shop closes.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[tuple[str, str, asyncio.Future[list[Any]]]] = []
        self._task: asyncio.Task[None] | None = None  # that gathers
        self._tasks: set[asyncio.Task[None]] = set()  # that send: the loop itself would forget them

    async def renew(self, lease: str, nonce: str, term_ms: int) -> list[Any]:
        """Renew one, together with what else is to be renewed just now.

        Args:
            lease: the key.
            nonce: ours.
            term_ms: the same for all.

        Returns:
            Who has it now ("" for nobody); the server's clock, seconds and microseconds; and when it was
            asked, by the monotonic clock.

        Raises:
            TemporaryError: STORE.
        """
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((lease, nonce, future))
        if self._task is None:
            # A task of its own: whoever came first may be cancelled, and the others still have to be renewed.
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
            except Exception as error:  # noqa: BLE001 - whoever waits is told, or would wait for ever
                for _, _, future in some:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), owner in zip(some, owners, strict=True):
                if not future.done():
                    future.set_result([owner, seconds, micros, requested_at])
