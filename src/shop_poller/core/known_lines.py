"""Lines of the system and of libraries that our errors quote, so that they can be translated. Pure."""

import re

from shop_poller.core.translatable import Text, joined

LINES = (
    Text("Address already in use"),
    Text("All connection attempts failed"),
    Text("Broken pipe"),
    Text("Cannot assign requested address"),
    Text("Connection refused"),
    Text("Connection reset by peer"),
    Text("Connection timed out"),
    Text("File exists"),
    Text("File name too long"),
    Text("File too large"),
    Text("Input/output error"),
    Text("Is a directory"),
    Text("Name or service not known"),
    Text("Network is unreachable"),
    Text("No address associated with hostname"),
    Text("No route to host"),
    Text("No space left on device"),
    Text("No such file or directory"),
    Text("Not a directory"),
    Text("Operation not permitted"),
    Text("Permission denied"),
    Text("Read-only file system"),
    Text("Temporary failure in name resolution"),
    Text("Too many open files"),
    Text("attempt to write a readonly database"),
    Text("database disk image is malformed"),
    Text("database is locked"),
    Text("database or disk is full"),
    Text("disk I/O error"),
    Text("file is not a database"),
    Text("unable to open database file"),
)
BY_LINE = {str(line): line for line in LINES}
ERRNO = re.compile(r"(\[Errno -?[0-9]{1,5}\] )(.*)")
"""What `str` of an OSError begins with."""


def known(line: str) -> str:
    """Return a line as a Text if it is one that can be translated."""
    found = ERRNO.fullmatch(line)
    return (
        BY_LINE.get(line, line) if found is None else joined("", [found[1], BY_LINE.get(found[2], found[2])])
    )
