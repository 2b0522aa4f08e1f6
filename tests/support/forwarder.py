"""A forwarder of TCP on loopback, as an address that leads to one server and later to another one."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from support.sink_peers import LOOPBACK


@dataclass
class Forwarder:
    """Leads new connections to `target`; those that live stay where they are.

    Attributes:
        target: the port of the server that new connections lead to.
        accepted: connections so far.
    """

    target: int
    accepted: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server((LOOPBACK, 0)))
    sockets: list[socket.socket] = field(default_factory=list)
    _pumps: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _broken: set[socket.socket] = field(default_factory=set)

    @property
    def port(self) -> int:
        found: int = self.listener.getsockname()[1]
        return found

    def run(self) -> None:
        """Accept until closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection((LOOPBACK, self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self.sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    pump = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                    pump.start()
                    self._pumps.append(pump)

    def reset(self) -> None:
        """Reset all connections (RST), as a firewall does that has forgotten them."""
        with self._lock:
            pairs, self.sockets = self.sockets, []
            pumps, self._pumps = self._pumps, []
            self._broken |= {*pairs}
        for one in pairs:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)  # sends nothing, and ends the pump's wait
        for pump in pumps:
            pump.join(5)
        for one in pairs:
            one.close()
        self._broken -= {*pairs}

    def close(self) -> None:
        """End all connections."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for one in (self.listener, *self.sockets):
            one.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            if one not in self._broken:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


@contextmanager
def forwarder(target: int) -> Iterator[Forwarder]:
    """One that runs until the block ends."""
    one = Forwarder(target)
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.close()
        thread.join(5)
