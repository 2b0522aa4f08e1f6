"""A connection whose statements raise sqlite3.Error alone, whatever the library makes of them."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from shop_poller.peer_errors import reason

PEER = "SQLite"


class CheckedConnection(sqlite3.Connection):
    """Translates what is no sqlite3.Error into one: a number of more than 64 bits, half a surrogate pair.

    It wraps the library's calls alone, so that an error in our own code stays what it is.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As sqlite3 has it; raises sqlite3.Error."""
        try:
            return super().execute(sql, parameters)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - the library's
            raise sqlite3.DatabaseError(reason(PEER, error)) from None

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """As sqlite3 has it; raises sqlite3.Error."""
        rows = list(parameters)  # what makes them is our own code
        try:
            return super().executemany(sql, rows)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - the library's
            raise sqlite3.DatabaseError(reason(PEER, error)) from None
