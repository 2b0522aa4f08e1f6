"""The right to write, which is the lock on the file; and the clock, which is this machine's."""

import math
import os
from datetime import datetime

from shop_poller.clock import now
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.stores.sqlite.connection import FileGoneError, SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection
from shop_poller.stores.sqlite.rows import mend


class SqliteLease(SqlitePort):
    """Lease and clock. For the methods see ports.Lease and ports.Clock."""

    @property
    def term_s(self) -> float:
        """The lock ends with the process."""
        return math.inf

    @in_thread
    def take(self, db: StateConnection) -> bool:
        """The lock was taken when the file was opened. Damaged rows are set aside before work begins."""
        db.execute("DELETE FROM temp.claimed")
        mend(db, now())
        return True

    async def renew(self) -> bool:
        """The lock is never lost, unless somebody takes the file away.

        Raises:
            PermanentError: STORE, the file that is open is not the one of that name any more.
        """
        try:
            await self._connection.run(lambda _: None)
        except TemporaryError as error:
            if isinstance(error.__cause__, FileGoneError):
                raise PermanentError(ErrorKind.STORE, str(error)) from error
            raise
        return True

    async def release(self) -> None:
        """Closing the file releases the lock."""

    async def holder(self) -> str:
        """This process: whoever reads beside another one cannot tell which that is."""
        return f"process {os.getpid()}"

    def now(self) -> datetime:
        """This machine's clock."""
        return now()

    async def ask_clock(self) -> None:
        """There is no server to ask."""
