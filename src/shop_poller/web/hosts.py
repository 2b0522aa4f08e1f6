"""Decides under which host names the listener answers.

A foreign name may belong to a website that points it at this machine, to read our pages through a visitor's
browser (DNS rebinding). Metrics, health and webhooks contain nothing worth that, and programs request them
under names that we cannot know. So exactly these paths answer under any name.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

WRONG_HOST = "the listener does not accept this host name; if it is right, add it to SHOP_HTTP_HOSTS\n"
HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?")


class HostGuard:
    """ASGI middleware that answers 421 under foreign names.

    Args:
        app: the application behind it.
        hosts: accepted names, in addition to addresses and localhost.
        open_paths: paths that answer under any name; of one that ends with a slash, those below it.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], open_paths: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._open_below = tuple(path for path in open_paths if path.endswith("/"))
        self._open_paths = frozenset(open_paths) - {*self._open_below}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it. The refusal repeats nothing of the request."""
        if scope["type"] != "http" or self._is_open(scope["path"]) or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        await PlainTextResponse(WRONG_HOST, 421, headers)(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or (
            path.startswith(self._open_below) and path not in self._open_below
        )

    def _is_ours(self, scope: Scope) -> bool:
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return False
        host = read_host(named[0].decode("latin-1"))
        return is_address(host) or host == "localhost" or host.endswith(".localhost") or host in self._hosts


def read_host(header: str) -> str:
    """Return the host without port and without the brackets of IPv6; "" if it is invalid."""
    found = HOST.fullmatch(header)
    if found is None:
        return ""
    return found["ipv6"] or found["name"].lower().removesuffix(".")


def is_address(host: str) -> bool:
    """Return whether this is an IP address, which no name server can redirect."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
