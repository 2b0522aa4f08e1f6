"""By which names the listener answers, before anything is routed.

A name that is not ours may be that of a site that leads it here, to read us with a browser's help (DNS
rebinding). What programs ask (metrics, health, webhooks) tells a browser's page nothing that is worth it, and
is asked under names that we cannot know: those paths, written exactly so, answer under any name.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

WRONG_HOST = "the listener is not known by this name; if it is right, add it to SHOP_HTTP_HOSTS\n"
HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?")


class HostGuard:
    """Answers 421 under names that are not ours; an ASGI middleware.

    Args:
        app: answers what passes.
        hosts: names that the listener may be called by, besides addresses and localhost.
        open_paths: answer under any name.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], open_paths: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer; nothing of the request is repeated."""
        if scope["type"] != "http" or scope["path"] in self._open_paths or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        await PlainTextResponse(WRONG_HOST, 421, headers)(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return False
        host = read_host(named[0].decode("latin-1"))
        return is_address(host) or host == "localhost" or host.endswith(".localhost") or host in self._hosts


def read_host(header: str) -> str:
    """Host without its port, and without the brackets of an IPv6 address; "" if it is none."""
    found = HOST.fullmatch(header)
    if found is None:
        return ""
    return found["ipv6"] or found["name"].lower().removesuffix(".")


def is_address(host: str) -> bool:
    """Whether it is an IP address, which no name server can lead elsewhere."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
