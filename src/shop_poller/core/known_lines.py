"""Lines of the system and of libraries that our errors quote, so that they can be translated. Pure."""

import re

from shop_poller.core.translatable import Text, joined

LINES = (
    Text("Address already in use"),
    Text("All connection attempts failed"),
    Text("Broken pipe"),
    Text("Cannot assign requested address"),
    Text("Cannot overwrite a value"),
    Text("Connection refused"),
    Text("Connection reset by peer"),
    Text("Connection timed out"),
    Text("Expected '=' after a key in a key/value pair"),
    Text("Expected ']' at the end of a table declaration"),
    Text("Expected ']]' at the end of an array declaration"),
    Text("Expected newline or end of document after a statement"),
    Text("File exists"),
    Text("File name too long"),
    Text("File too large"),
    Text("Input/output error"),
    Text("Invalid initial character for a key part"),
    Text("Invalid statement"),
    Text("Invalid value"),
    Text("Is a directory"),
    Text("Name or service not known"),
    Text("Network is unreachable"),
    Text("No address associated with hostname"),
    Text("No locks available"),
    Text("No route to host"),
    Text("No space left on device"),
    Text("No such file or directory"),
    Text("Not a directory"),
    Text("Operation not permitted"),
    Text("Permission denied"),
    Text("Read-only file system"),
    Text("Temporary failure in name resolution"),
    Text("Too many open files"),
    Text("Unclosed array"),
    Text("Unclosed inline table"),
    Text("Unterminated string"),
    Text("attempt to write a readonly database"),
    Text("database disk image is malformed"),
    Text("database is locked"),
    Text("database or disk is full"),
    Text("disk I/O error"),
    Text("file is not a database"),
    Text("invalid continuation byte"),
    Text("invalid start byte"),
    Text("unable to open database file"),
    Text("unexpected end of data"),
)
AT_END = " (at end of document)"
BY_LINE = {str(line): line for line in LINES}
ERRNO = re.compile(r"(\[Errno -?[0-9]{1,5}\] )(.*)")
"""What `str` of an OSError begins with."""
PLACE = re.compile(r"(.*) \(at line ([0-9]+), column ([0-9]+)\)")
"""Where tomllib finds an error."""
NO_UTF_8 = re.compile(r"'utf-8' codec can't decode byte (0x[0-9a-f]{2}) in position ([0-9]+): (.*)")


def known(line: str) -> str:
    """Return a line as a Text if it is one that can be translated."""
    if found := ERRNO.fullmatch(line):
        return joined("", [found[1], known(found[2])])
    if found := PLACE.fullmatch(line):
        problem, row, column = known(found[1]), found[2], found[3]
        return Text("{problem} (at line {line}, column {column})", problem=problem, line=row, column=column)
    if found := NO_UTF_8.fullmatch(line):
        return Text(
            "'utf-8' codec can't decode byte {byte} in position {position}: {reason}",
            byte=found[1],
            position=found[2],
            reason=known(found[3]),
        )
    problem = line.removesuffix(AT_END)
    if problem in BY_LINE and problem != line:
        return Text("{problem} (at end of document)", problem=BY_LINE[problem])
    return BY_LINE.get(line, line)
