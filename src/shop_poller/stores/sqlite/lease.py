"""The lease, which is the lock on the file, and the clock, which is this machine's."""

import math
import os
from datetime import datetime

from shop_poller.clock import now
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.stores.sqlite.connection import FileGoneError, SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection
from shop_poller.stores.sqlite.rows import mend


class SqliteLease(SqlitePort):
    """Lease and clock. For the methods see ports.Lease and ports.Clock."""

    @property
    def term_s(self) -> float:
        """Infinite: the lock ends with the process."""
        return math.inf

    @in_thread
    def take(self, db: StateConnection) -> bool:
        """Set damaged rows aside before work begins. The lock was taken when the file was opened."""
        db.execute("DELETE FROM temp.claimed")
        mend(db, now())
        return True

    async def renew(self) -> bool:
        """Check that the file still exists. The lock cannot be lost in another way.

        Raises:
            PermanentError: STORE, the open file no longer has its name.
        """
        try:
            await self._connection.run(lambda _: None)
        except TemporaryError as error:
            if isinstance(error.__cause__, FileGoneError):
                raise PermanentError(ErrorKind.STORE, error.text) from error
            raise
        return True

    async def release(self) -> None:
        """Do nothing: closing the file releases the lock."""

    async def holder(self) -> str:
        """Return this process. A reader cannot see which other process has the lock."""
        return Text("process {number}", number=os.getpid())

    def now(self) -> datetime:
        """Return the time of this machine's clock."""
        return now()

    async def ask_clock(self) -> None:
        """Do nothing: there is no server to ask."""
