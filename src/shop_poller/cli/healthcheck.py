"""`healthy`: asks the daemon on this machine for its health. It runs often, so it imports few modules."""

import os
import socket
import sys

DEFAULT_LISTEN = "127.0.0.1:9108"
TIMEOUT_S = 4.0
MAX_ANSWER = 16 * 1024
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a lookup, not a listener
"""Addresses to listen on that cannot be connected to, and where to connect instead."""


def main(listen: str | None = None) -> int:
    """Print the health of the daemon.

    Args:
        listen: host:port of the listener; None for SHOP_HTTP_LISTEN or its default.

    Returns:
        The exit code, as Docker expects it: 0 healthy, 1 unhealthy.
    """
    well, text = ask(os.environ.get("SHOP_HTTP_LISTEN", DEFAULT_LISTEN) if listen is None else listen)
    stream = sys.stdout if well else sys.stderr
    try:
        # The same as core/plain_text.py, which takes too long to import here.
        print("".join(c if c.isprintable() else " " for c in text), file=stream, flush=True)
    except OSError:  # nobody reads it; the exit code is enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 0 if well else 1


def ask(listen: str) -> tuple[bool, str]:
    """Ask /healthz.

    Args:
        listen: host:port or [::1]:port; empty if the listener is off.

    Returns:
        Whether it is healthy, and a line for people.
    """
    host, _, port = listen.strip().rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        return False, "shop-poller: SHOP_HTTP_LISTEN: does not name a listener; use host:port"
    host = EVERYWHERE.get(host, host)
    try:
        answer = _get(host, int(port))
    except OSError as error:
        return (
            False,
            f"shop-poller: {host}:{port} does not answer: {error.strerror or error}; is it running?",
        )
    head, _, body = answer.partition("\r\n\r\n")
    return head.startswith(
        "HTTP/1.1 200 "
    ), body.strip() or f"shop-poller: {host}:{port} is not the listener of shop-poller"


def _get(host: str, port: int) -> str:
    """Return the response, as text."""
    name = f"[{host}]" if ":" in host else host
    request = f"GET /healthz HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(request.encode())
        while len(answer) < MAX_ANSWER and (more := connection.recv(MAX_ANSWER)):
            answer += more
    return answer.decode(errors="replace")
