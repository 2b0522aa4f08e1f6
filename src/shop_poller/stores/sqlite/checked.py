"""A connection whose statements raise only sqlite3.Error, whatever the library raises."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from shop_poller.peer_errors import reason

PEER = "SQLite"


class CheckedConnection(sqlite3.Connection):
    """Translates other errors of the library into sqlite3.Error.

    The library raises others for a number of more than 64 bits, or half a surrogate pair. Only the calls of
    the library are wrapped, so errors in our own code are not translated.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement, as sqlite3 does. Raises only sqlite3.Error."""
        try:
            return super().execute(sql, parameters)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - the library's
            raise sqlite3.DatabaseError(reason(PEER, error)) from None

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement for each row, as sqlite3 does. Raises only sqlite3.Error."""
        rows = list(parameters)  # our own code makes the rows, so its errors must not be translated
        try:
            return super().executemany(sql, rows)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - the library's
            raise sqlite3.DatabaseError(reason(PEER, error)) from None
