"""Detects that a server with the Redis protocol accepts no writes now, though another server may.

This happens while it is a replica, starts, has lost its primary or its replicas, or cannot write to its disk.
An existing connection may lead to such a server while the address already leads to another one.
"""

import re

NO_WRITES = re.compile(r"(?:^|[\s-])(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MISCONF|NOREPLICAS|UNBLOCKED)\b")
"""At the beginning of an error, or inside one: a script's error quotes it, with a dash in old versions."""
BY_NAME = frozenset(
    {"ReadOnlyError", "BusyLoadingError", "MasterDownError", "ClusterDownError", "ClusterDownException"}
)
"""The library's names for some of them, whose texts lack the word."""
DEMOTED = "previous master is now a slave"
"""The library's text for READONLY if Sentinels are used."""


def says_no_writes(error: Exception) -> bool:
    """Return whether an error of the library means this.

    Args:
        error: its text is the server's; errors with a class of their own lack the first word.
    """
    named = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)[:1000]
    return bool(BY_NAME & named) or NO_WRITES.search(text) is not None or DEMOTED in text
