"""The embedded store: one SQLite file, nothing to install, safe against kill -9 and power cuts."""

import asyncio
import math
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Concatenate, ParamSpec, Self, TypeVar

from anyio import CancelScope

from shop_poller.clock import now
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.peer_errors import translated
from shop_poller.ports import (
    Alert,
    Backfill,
    Batch,
    DeadLetter,
    DeliveredEntry,
    DeliveryRecord,
    FinishedDelivery,
    NewDelivery,
    Outcome,
    RowSetAside,
    ShopState,
    Stats,
)
from shop_poller.stores.damage import StateFinding
from shop_poller.stores.sqlite import dead_letters, inspection, orders, outbox, rows
from shop_poller.stores.sqlite.file import (
    StateConnection,
    explain,
    is_beyond_use,
    open_concurrently,
    open_copy,
    open_empty,
    open_for_reading,
    open_for_writing,
    open_to_follow,
)
from shop_poller.stores.sqlite.guard import FileGuard

P = ParamSpec("P")
T = TypeVar("T")
Opener = Callable[[Path], tuple[StateConnection, int | None]]
Opened = tuple[StateConnection, int | None, FileGuard | None]
IN_MEMORY: tuple[Opener, ...] = (open_copy, open_empty)
"""What these open has no file that somebody could take away."""


class _FileGoneError(Exception):
    """The files of the state are not those that were opened."""


class _Opening:
    """Opens a file in a thread; if nobody waits for it any more, the thread closes it again.

    Args:
        opener: opens the file.
        path: of the file.
    """

    def __init__(self, opener: Opener, path: Path) -> None:
        self._opener = opener
        self._path = path
        self._mutex = Lock()
        self._is_abandoned = False
        self._opened: Opened | None = None

    def __call__(self) -> Opened:
        """Open it; raises what the opener raises."""
        db, lock = self._opener(self._path)
        try:
            guard = None if self._opener in IN_MEMORY else FileGuard(self._path, lock)
        except BaseException:
            _close(db, lock)
            raise
        opened = db, lock, guard
        with self._mutex:
            self._opened = opened
            if self._is_abandoned:
                self._close()
        return opened

    def abandon(self) -> None:
        """Close what was opened, or will be; nothing happens if nothing was."""
        with self._mutex:
            self._is_abandoned = True
            self._close()

    def _close(self) -> None:
        if self._opened is None:
            return
        db, lock, _ = self._opened
        self._opened = None
        _close(db, lock)


def _close(db: StateConnection, lock: int | None) -> None:
    try:
        with suppress(sqlite3.Error):
            db.close()
    finally:
        if lock is not None:
            os.close(lock)


class SqliteStore:
    """The state in one SQLite file; made by `open`, `copy` or `peek`. For the methods see ports.Store.

    All work is done in a thread of its own, or of those that the stores of several shops share, and one thing
    after the other; so a slow disk never stops the event loop.
    """

    def __init__(
        self,
        db: StateConnection,
        *,
        path: Path,
        threads: ThreadPoolExecutor,
        shared: bool,
        lock: int | None,
        guard: FileGuard | None,
    ) -> None:
        self._db = db
        self._path = path
        self._threads = threads
        self._shared = shared
        # A thread of its own does one thing after the other anyway.
        self._turn = asyncio.Lock() if shared else nullcontext()
        self._lock = lock
        self._looked_at: dict[str, int] = {}  # by sink: the last seq that was looked at by `wake`
        self._guard = guard
        self._closed = False

    @classmethod
    async def open(cls, path: Path, threads: ThreadPoolExecutor | None = None) -> Self:
        """Open the store for writing, creating or migrating it; one process at a time.

        Args:
            path: of the file.
            threads: that the stores of several shops share; else it gets one of its own.

        Raises:
            PermanentError: STORE, in use by another process, not writable, not ours, or too new.
        """
        return await cls._open(path, open_for_writing, threads)

    @classmethod
    async def empty(cls) -> Self:
        """A store in memory that holds nothing yet."""
        return await cls._open(Path(":memory:"), open_empty)

    @classmethod
    async def copy(cls, path: Path) -> Self:
        """A copy in memory, empty if there is no file: what is written to it changes nothing.

        Raises:
            PermanentError: STORE, the file cannot be read.
        """
        return await cls._open(path, open_copy)

    @classmethod
    async def peek(cls, path: Path) -> Self:
        """Open an existing store for reading, beside whoever writes to it.

        Raises:
            PermanentError: STORE, there is none, or it cannot be read.
        """
        return await cls._open(path, open_for_reading)

    @classmethod
    async def follow(cls, path: Path) -> Self:
        """Open an existing store for reading what is written to it from now on.

        Raises:
            PermanentError: STORE, there is none, it is too old or too new, or cannot be read.
        """
        return await cls._open(path, open_to_follow)

    @classmethod
    async def concurrent(cls, path: Path) -> Self:
        """Open an existing store to learn orders or move dead letters beside the process that polls.

        Raises:
            PermanentError: STORE, there is none, it is too old or too new, or cannot be written to.
        """
        return await cls._open(path, open_concurrently)

    @classmethod
    async def _open(cls, path: Path, opener: Opener, shared: ThreadPoolExecutor | None = None) -> Self:
        threads = shared or ThreadPoolExecutor(1, thread_name_prefix="store")
        opening = _Opening(opener, path)
        try:
            with translated(str(path), partial(_unusable, path), passing=(sqlite3.Error, OSError)):
                running = asyncio.get_running_loop().run_in_executor(threads, opening)
            db, lock, guard = await running
        except BaseException as error:
            opening.abandon()
            if shared is None:
                threads.shutdown()
            if isinstance(error, sqlite3.Error | OSError):
                raise PermanentError(ErrorKind.STORE, explain(error, path)) from error
            raise
        return cls(db, path=path, threads=threads, shared=shared is not None, lock=lock, guard=guard)

    async def _run(
        self, work: Callable[Concatenate[StateConnection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def call() -> T:
            if self._guard is None:
                return work(self._db, *args, **kwargs)
            problem = self._guard.problem()
            if problem is not None:
                raise _FileGoneError(problem)
            self._guard.note_change()  # what was written beside us
            try:
                return work(self._db, *args, **kwargs)
            finally:
                self._guard.note_change()

        if self._closed:
            raise TemporaryError(ErrorKind.STORE, f"state file {self._path}: is closed already")
        loop = asyncio.get_running_loop()
        try:
            with CancelScope(shield=True):  # a commit is never left unwatched; each takes milliseconds
                async with self._turn:
                    with translated(str(self._path), partial(_unusable, self._path)):
                        running = loop.run_in_executor(self._threads, call)
                    result = await running
        except sqlite3.Error as error:
            if is_beyond_use(error):
                raise PermanentError(ErrorKind.STORE, explain(error, self._path)) from error
            raise TemporaryError(ErrorKind.STORE, explain(error, self._path)) from error
        except _FileGoneError as error:
            raise TemporaryError(ErrorKind.STORE, str(error)) from error
        return result

    @property
    def term_s(self) -> float:
        """The right to write is the lock on the file, which ends with the process."""
        return math.inf

    async def take(self) -> bool:
        """It was taken when the file was opened."""
        await self._run(outbox.forget_claims)
        return True

    async def renew(self) -> bool:
        """It is never lost, unless somebody takes the file away.

        Raises:
            PermanentError: STORE, the file that is open is not the one of that name any more.
        """
        try:
            await self._run(lambda _: None)
        except TemporaryError as error:
            if isinstance(error.__cause__, _FileGoneError):
                raise PermanentError(ErrorKind.STORE, str(error)) from error
            raise
        return True

    async def release(self) -> None:
        """Closing the file releases it."""

    async def holder(self) -> str:
        """This process, or nobody else could tell."""
        return f"process {os.getpid()}"

    def now(self) -> datetime:
        """This machine's clock."""
        return now()

    async def ask_clock(self) -> None:
        """It is this machine's."""

    async def load(self, shop_id: str) -> ShopState | None:
        """A shop's state, if any."""
        return await self._run(orders.load, shop_id)

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """Load or begin a shop's state."""
        return await self._run(orders.register, shop_id, now)

    async def known(self, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """What is known of these orders."""
        return await self._run(orders.known, shop_id, list(ids))

    async def open_orders(self, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Orders that may still change."""
        return await self._run(orders.open_orders, shop_id, after_id, limit)

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """The orders that could not be read."""
        return await self._run(orders.set_aside, shop_id)

    async def rows_set_aside(self, shop_id: str) -> list[RowSetAside]:
        """The stored rows that were damaged."""
        return await self._run(rows.rows_set_aside, shop_id)

    async def inspect(self, shop_id: str) -> list[StateFinding]:  # noqa: ARG002 - a file is looked at as a whole
        """Everything that is wrong with the state; changes nothing."""
        return await self._run(inspection.inspect, now())

    async def repair(self, shop_id: str) -> list[StateFinding]:  # noqa: ARG002 - likewise
        """Put right what can be, and keep copies.

        Returns:
            What was wrong.
        """
        return await self._run(inspection.repair, now())

    async def forget_set_aside(self, shop_id: str) -> int:
        """Drop the copies of damaged rows."""
        return await self._run(rows.forget, shop_id)

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Change known orders, outbox and state at once."""
        await self._run(orders.commit, shop_id, batch)

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """The alerts raised now."""
        return await self._run(orders.alerts, shop_id)

    async def raise_alert(
        self, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Remember an alert and send it."""
        await self._run(orders.raise_alert, shop_id, alert, new_deliveries, now)

    async def clear_alert(
        self, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Forget an alert and send its end."""
        await self._run(orders.clear_alert, shop_id, service, new_deliveries, now)

    async def claim(self, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Take due deliveries."""
        return await self._run(outbox.claim, sink, now, limit)

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record what became of claimed deliveries."""
        await self._run(outbox.record_outcomes, outcomes, now)

    async def release_parked(self, sink: str) -> bool:
        """Make parked deliveries due, some at a time."""
        last = await self._run(outbox.release_parked, sink, self._looked_at.pop(sink, 0))
        if last is not None:
            self._looked_at[sink] = last
        return last is not None

    async def clamp_due(self, sink: str, *, latest: datetime) -> int:
        """Let nothing be due later than that."""
        return await self._run(outbox.clamp_due, sink, latest)

    async def next_due(self, sink: str) -> datetime | None:
        """When the next delivery is due."""
        return await self._run(outbox.next_due, sink)

    async def dead_letter_expired(self, sink: str, *, head_before: datetime, now: datetime) -> int:
        """Bury what waited too long."""
        return await self._run(outbox.dead_letter_expired, sink, head_before, now)

    async def stats(self, shop_id: str) -> Stats:
        """Count what lies in the store."""
        return await self._run(orders.stats, shop_id)

    async def finished(
        self,
        shop_id: str,
        *,
        dead: bool,
        limit: int,
        sink: str | None = None,
        after: datetime | None = None,
    ) -> list[FinishedDelivery]:
        """What was delivered or given up."""
        return await self._run(orders.finished, shop_id, dead=dead, limit=limit, sink=sink, after=after)

    async def by_the_hour(self, shop_id: str, *, dead: bool, before: datetime, hours: int) -> list[int]:
        """How many were made, or given up, in each hour."""
        return await self._run(dead_letters.by_the_hour, shop_id, dead=dead, before=before, hours=hours)

    async def dead_ids(
        self,
        shop_id: str,
        *,
        sink: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[int]:
        """The dead letters' seqs."""
        return await self._run(dead_letters.dead_ids, shop_id, sink=sink, since=since, before=before)

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter."""
        return await self._run(dead_letters.dead_letter, shop_id, seq)

    async def replay_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back behind what waits."""
        return await self._run(dead_letters.replay, shop_id, seqs, now)

    async def drop_concurrently(self, shop_id: str, seqs: Collection[int]) -> int:
        """Forget dead letters."""
        return await self._run(dead_letters.drop, shop_id, seqs)

    async def delivered(self, shop_id: str, *, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """What was delivered within a time."""
        return await self._run(dead_letters.delivered, shop_id, since, before)

    async def resend_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put deliveries that were made back behind what waits."""
        return await self._run(dead_letters.resend, shop_id, seqs, now)

    async def delivery_records(self, shop_id: str, keys: Collection[str]) -> list[DeliveryRecord]:
        """What became of the deliveries of these keys."""
        return await self._run(orders.delivery_records, shop_id, list(keys))

    async def backfill(self, shop_id: str) -> Backfill | None:
        """How far the last backfill has come."""
        return await self._run(orders.backfill, shop_id)

    async def import_concurrently(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Record orders of which nothing is known."""
        return await self._run(orders.import_concurrently, shop_id, records, position, now)

    async def redate(self, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Date back what is dated in the future."""
        return await self._run(orders.redate, shop_id, after, to)

    async def prune(self, shop_id: str, *, seen_before: datetime, finished_before: datetime) -> int:
        """Drop what is old."""
        return await self._run(orders.prune, shop_id, seen_before, finished_before)

    async def aclose(self) -> None:
        """Close the file and let the next process have it."""
        if self._closed:
            return
        self._closed = True
        try:
            # RuntimeError: the threads have ended already, so nothing uses the connection any more.
            with suppress(sqlite3.Error, RuntimeError), CancelScope(shield=True):
                async with self._turn:
                    await asyncio.get_running_loop().run_in_executor(self._threads, self._db.close)
        finally:
            if not self._shared:
                self._threads.shutdown()
            if self._lock is not None:
                os.close(self._lock)


def _unusable(path: Path, why: str) -> TemporaryError:
    """No thread can be started, for one."""
    return TemporaryError(
        ErrorKind.STORE, f"state file {path}: {why}; check the limits on threads and memory"
    )
