"""The embedded store: one SQLite file. It needs no installation and survives kill -9 and power cuts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from shop_poller.stores.sqlite.alerts import SqliteAlertState
from shop_poller.stores.sqlite.connection import SqliteConnection
from shop_poller.stores.sqlite.dead_letters import SqliteDeadLetters
from shop_poller.stores.sqlite.file import (
    open_concurrently,
    open_copy,
    open_empty,
    open_for_reading,
    open_for_writing,
    open_to_follow,
)
from shop_poller.stores.sqlite.history import SqliteDeliveryHistory
from shop_poller.stores.sqlite.inspection import SqliteInspection
from shop_poller.stores.sqlite.lease import SqliteLease
from shop_poller.stores.sqlite.orders import SqliteOrderState
from shop_poller.stores.sqlite.outbox import SqliteOutbox
from shop_poller.stores.sqlite.retention import SqliteRetention
from shop_poller.stores.sqlite.statistics import SqliteStatistics


class SqliteStore(
    SqliteLease,
    SqliteOrderState,
    SqliteRetention,
    SqliteOutbox,
    SqliteDeliveryHistory,
    SqliteDeadLetters,
    SqliteAlertState,
    SqliteStatistics,
    SqliteInspection,
):
    """All ports over one state file: a ports.Store."""

    @classmethod
    async def open(cls, path: Path, threads: ThreadPoolExecutor | None = None) -> Self:
        """Open the store for writing; create or migrate it if needed. Only one process at a time can do so.

        Args:
            path: the path of the file.
            threads: the threads that the stores of several shops share; None for a thread of its own.

        Raises:
            PermanentError: STORE, in use by another process, not writable, not ours, or too new.
        """
        return cls(await SqliteConnection.open(path, open_for_writing, threads))

    @classmethod
    async def empty(cls) -> Self:
        """Return an empty store in memory."""
        return cls(await SqliteConnection.open(Path(":memory:"), open_empty))

    @classmethod
    async def copy(cls, path: Path) -> Self:
        """Return a copy in memory, empty if there is no file. Writing to it does not change the file.

        Raises:
            PermanentError: STORE, the file cannot be read.
        """
        return cls(await SqliteConnection.open(path, open_copy))

    @classmethod
    async def peek(cls, path: Path) -> Self:
        """Open an existing store for reading while another process may write to it.

        Raises:
            PermanentError: STORE, there is no state, or it cannot be read.
        """
        return cls(await SqliteConnection.open(path, open_for_reading))

    @classmethod
    async def follow(cls, path: Path) -> Self:
        """Open an existing store to read what is written to it from now on.

        Raises:
            PermanentError: STORE, there is no state, it is too old or too new, or it cannot be read.
        """
        return cls(await SqliteConnection.open(path, open_to_follow))

    @classmethod
    async def concurrent(cls, path: Path) -> Self:
        """Open an existing store to import orders or move dead letters beside the process that polls.

        Raises:
            PermanentError: STORE, there is no state, it is too old or too new, or it cannot be written to.
        """
        return cls(await SqliteConnection.open(path, open_concurrently))

    async def aclose(self) -> None:
        """Close the file, so that the next process can open it."""
        await self._connection.aclose()
