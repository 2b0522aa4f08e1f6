"""Who may act: whoever knows SHOP_ADMIN_TOKEN, and for a while the browser that showed it."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request

SESSION_S = 12 * 3600.0
MOST_SESSIONS = 16
"""The oldest one goes when there are more."""
WRONG_AT_ONCE = 5
WRONG_EVERY_S = 12.0
"""Wrong tokens that are heard: some at once, then one in so many seconds. Sessions are not concerned."""


class TooManyError(Exception):
    """There were too many wrong tokens; none is looked at for now."""


class AdminAuth:
    """Knows the token, and the sessions that it opened; they live in memory, and end with the process.

    Args:
        token: SHOP_ADMIN_TOKEN.
        shop: whose; another daemon on this host has a cookie of its own.
        clock: seconds, monotonic.
    """

    def __init__(self, token: str, *, shop: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.cookie = f"shop_poller_{hashlib.sha256(shop.encode()).hexdigest()[:8]}"
        self._token = _digest(token)
        self._clock = clock
        self._sessions: dict[str, float] = {}  # the digest of each, and when it ends; the oldest first
        self._wrong = 0.0
        self._wrong_at = clock()

    def fits(self, token: str) -> bool:
        """Whether it is the token, in a time that tells nothing about it.

        Raises:
            TooManyError: that is not looked at now.
        """
        now = self._clock()
        self._wrong = max(0.0, self._wrong - (now - self._wrong_at) / WRONG_EVERY_S)
        self._wrong_at = now
        if self._wrong > WRONG_AT_ONCE - 1:
            raise TooManyError
        if hmac.compare_digest(_digest(token), self._token):
            return True
        self._wrong += 1
        return False

    def open(self) -> str:
        """Begin a session; what the browser is to show from now on. The token cannot be told from it."""
        session = secrets.token_urlsafe(32)
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(session)] = self._clock() + SESSION_S
        return session

    def knows(self, request: Request) -> bool:
        """Whether the request comes from a browser that is signed in."""
        return self._sessions.get(_digest(request.cookies.get(self.cookie, "")), 0.0) > self._clock()

    def close(self, request: Request) -> None:
        """End the session of a request."""
        self._sessions.pop(_digest(request.cookies.get(self.cookie, "")), None)


def bearer(request: Request) -> str | None:
    """The token that a program shows; None if it shows none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def same_origin(request: Request) -> bool:
    """Whether a form was sent by a page of ours: browsers say so, in one way or the other.

    Sec-Fetch-Site is sent to https and to this machine only, Origin with every form. Behind a proxy that
    ends TLS our scheme is not the browser's, so hosts and ports are compared.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
