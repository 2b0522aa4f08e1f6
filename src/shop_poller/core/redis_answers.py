"""By what a server of Redis' protocol says that it takes no writes now, though another one may.

That is so while it is a replica, starts, has lost its primary or its replicas, or cannot write to its disk. A
connection that was made before may lead to such a server, where the address leads to another one by now.
"""

import re

NO_WRITES = re.compile(r"(?:^|[\s-])(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MISCONF|NOREPLICAS|UNBLOCKED)\b")
"""At the beginning of an error, or within one: that of a script quotes it, with a dash in old versions."""
BY_NAME = frozenset(
    {"ReadOnlyError", "BusyLoadingError", "MasterDownError", "ClusterDownError", "ClusterDownException"}
)
"""The library's names for some of them, whose texts lack the word."""
DEMOTED = "previous master is now a slave"
"""What the library makes of READONLY where Sentinels are asked."""


def says_no_writes(error: Exception) -> bool:
    """Whether an error of the library is such an answer.

    Args:
        error: its text is the server's; for errors of a kind of their own without the first word.
    """
    named = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)[:1000]
    return bool(BY_NAME & named) or NO_WRITES.search(text) is not None or DEMOTED in text
