"""Receivers of notifications on loopback: they remember what came, and answer as a test wants it."""

import json
import socket
import socketserver
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.commands import wait_until

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Post:
    """A notification that arrived whole. Header names are lower-case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def notification(self) -> dict[str, Any]:
        notification: dict[str, Any] = json.loads(self.body)
        return notification

    @property
    def event_id(self) -> str:
        return str(self.notification["event_id"])

    @property
    def event(self) -> str:
        """What it is about, shortly: "new", "cancelled", ..., "unhealthy"."""
        return str(self.notification["event_type"]).rpartition(".")[2]

    @property
    def source_id(self) -> str:
        return str(self.notification["source_id"])


@dataclass
class Receiver:
    """A receiver that listens at `url`.

    Attributes:
        posts: everything that arrived, in order.
        taken: what of it was answered with 2xx.
        methods: the method of every request, also of those that are no notification.
        answer: gives the status to answer with, or None to hang up; may take its time.
        closing: set when the receiver goes away: what waits must end then.
        connections: those that are open.
    """

    port: int
    posts: list[Post] = field(default_factory=list)
    taken: list[Post] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    answer: Callable[[Post], int | None] = lambda _: 200
    closing: threading.Event = field(default_factory=threading.Event)
    connections: set[socket.socket] = field(default_factory=set)
    _stories: defaultdict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/api/v1/notifications/webhook"

    @property
    def events(self) -> list[tuple[str, str]]:
        """What arrived, shortly: (order, event)."""
        return [(post.source_id, post.event) for post in list(self.posts)]

    @property
    def event_ids(self) -> list[str]:
        """Of everything that arrived, in order, each repeat too."""
        return [post.event_id for post in list(self.posts)]

    def story(self, source_id: object) -> list[str]:
        """The events of one order, in the order of their arrival; an immediate repeat counts once."""
        return [event for event, _ in self._stories[str(source_id)]]

    def first_story(self, source_id: object) -> list[str]:
        """The events of one order, in the order of their first arrival; repeats do not count."""
        return [event for event, _ in dict.fromkeys(self._stories[str(source_id)])]

    def took_in(self, post: Post) -> None:
        """Remember what arrived."""
        chapter, story = (post.event, post.event_id), self._stories[post.source_id]
        if chapter not in story[-1:]:
            story.append(chapter)
        self.posts.append(post)

    def wait_for(self, count: int, *, within_s: float = 30.0) -> list[Post]:
        """Wait until so many notifications have arrived and been answered."""
        wait_until(
            lambda: len(self.taken) >= count, f"{count} notifications (last: {self.events[-3:]})",
            within_s=within_s,
        )  # fmt: skip
        return list(self.taken)

    def drain(self) -> None:
        """Wait until all that was sent by somebody who is dead now has arrived."""
        with socket.create_connection(
            (LOOPBACK, self.port)
        ) as last:  # those before it have been accepted then
            last.sendall(b"OPTIONS / HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\n\r\n")
            while last.recv(4096):
                pass
        wait_until(lambda: not self.connections, "the end of all connections")

    def hang(self, _: Post) -> None:
        """An answer: none, for as long as the receiver is there."""
        self.closing.wait()

    def slowly(self, seconds: float) -> Callable[[Post], int]:
        """An answer: yes, after a while."""

        def answer(_: Post) -> int:
            self.closing.wait(seconds)
            return 200

        return answer


class _Server(socketserver.ThreadingTCPServer):
    """A thread a connection; all of them are over when it is closed."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, receiver: Receiver, port: int) -> None:
        self.receiver = receiver
        super().__init__((LOOPBACK, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.receiver.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.receiver.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here; anything else fails the test by what is missing."""

    def close(self) -> None:
        self.shutdown()
        self.receiver.closing.set()
        for connection in list(self.receiver.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or else every answer takes 40 ms
    server: _Server

    def handle_one_request(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().handle_one_request()
            return
        self.close_connection = True

    def do_POST(self) -> None:
        receiver = self.server.receiver
        receiver.methods.append("POST")
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        post = Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        receiver.took_in(post)
        status = receiver.answer(post)
        if status is None:
            self.close_connection = True
            return
        if status // 100 == 2:
            receiver.taken.append(post)
        self._answer(status)

    def do_OPTIONS(self) -> None:
        self.server.receiver.methods.append(self.command)
        self._answer(405)

    do_GET = do_HEAD = do_OPTIONS  # noqa: N815 - names that http.server looks for

    def _answer(self, status: int) -> None:
        body = b'{"status":"ok"}' if status // 100 == 2 else b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Listen for notifications until the block ends."""
    receiver = Receiver(port)
    server = _Server(receiver, port)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.close()
        thread.join()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port where nobody listens, and that nobody else gets, but that can be listened on."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, 0))
        yield bound.getsockname()[1]


class Systemd:
    """What systemd is to a service: a datagram socket for its states."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0)
        self._states: list[str] = []

    @property
    def states(self) -> list[str]:
        """What it was told so far."""
        with suppress(BlockingIOError):
            while True:
                self._states.append(self._socket.recv(4096).decode())
        return list(self._states)

    def close(self) -> None:
        self._socket.close()
