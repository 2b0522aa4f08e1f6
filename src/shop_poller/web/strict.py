"""Refuses requests whose end or target two programs may read differently (request smuggling).

A proxy before us may use another header for the length of a body than we do. Then a client can hide a second
request in the body of its first one. RFC 9112, sections 6.1 and 6.3, allows a server to refuse such requests.
The connection is closed after the response, since the start of the next request is unknown.
"""

import re
from typing import Any

import h11

END_OF_HEAD = re.compile(rb"\n\r?\n")
LENGTH = re.compile(rb"^content-length[ \t]*:", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """Refuses requests that h11 tolerates; the caller answers 400, as for anything that is not HTTP."""

    def next_event(self) -> Any:
        """As h11's.

        Raises:
            RemoteProtocolError: the request is refused.
        """
        head = self._head() if self.their_state is h11.IDLE else []
        lengths = sum(line.count(b",") + 1 for line in head if LENGTH.match(line))
        event = super().next_event()
        if isinstance(event, h11.Request):
            if any(line[:1] in {b" ", b"\t"} for line in head):  # to some it is a header of its own
                raise h11.RemoteProtocolError("a header that is folded into several lines")
            names = {name for name, _ in event.headers}
            if lengths > 1:  # h11 makes one of those that are the same
                raise h11.RemoteProtocolError("several Content-Length headers")
            if b"transfer-encoding" in names:
                if lengths or b"content-length" in names:
                    raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
                if event.http_version != b"1.1":
                    raise h11.RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
            if not event.target.startswith(b"/") and event.target != b"*":
                # The absolute form names a host of its own, which is for proxies.
                raise h11.RemoteProtocolError("the target of the request is no path")
        return event

    def _head(self) -> list[bytes]:
        """The lines of the next request's head; none if it is not there as a whole yet."""
        data, _ = self.trailing_data
        end = END_OF_HEAD.search(data)
        return [] if end is None else data[: end.start()].split(b"\n")
