"""Reads the parts of an event stream (text/event-stream, WHATWG HTML) that JSON-RPC over HTTP needs."""

from codecs import BOM_UTF8
from collections.abc import Iterator


class EventStream:
    """Accepts bytes in any pieces and returns the data of each complete event.

    Lines end in CR LF, LF or CR. An empty line ends an event. The data lines of an event are joined by LF.
    The caller must limit the number of bytes. The work is linear in the bytes, however they are split.

    Attributes:
        has_events: whether there was a line of data.
    """

    def __init__(self) -> None:
        self.has_events = False
        self._line: list[bytes] = []
        self._begun = False
        self._after_cr = False
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Add bytes, and yield the data of each event that they complete."""
        if not chunk:
            return
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        first, *others = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line.append(first)
        for other in others:
            line, self._line = b"".join(self._line), [other]
            if not self._begun:
                line, self._begun = line.removeprefix(BOM_UTF8), True
            if line:
                self._take(line)
            elif self._data:
                data, self._data = b"\n".join(self._data), []
                yield data

    def end(self) -> bytes:
        """Return the data of the last event if the stream ended without its empty line; it may be cut off."""
        line, self._line = b"".join(self._line), []
        self._take(line if self._begun else line.removeprefix(BOM_UTF8))
        data, self._data = b"\n".join(self._data), []
        return data

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self.has_events = True
            self._data.append(value.removeprefix(b" "))
