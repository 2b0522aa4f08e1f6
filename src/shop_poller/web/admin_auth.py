"""Decides who may use the actions: programs with SHOP_ADMIN_TOKEN, and browsers that signed in with it."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request

SESSION_S = 12 * 3600.0
MOST_SESSIONS = 16
"""The oldest session ends when there are more."""
WRONG_AT_ONCE = 5
WRONG_EVERY_S = 12.0
"""How many wrong tokens are checked: some at once, then one per interval. Sessions are not affected."""


class TooManyError(Exception):
    """There were too many wrong tokens; no token is checked for now."""


class AdminAuth:
    """Checks the token, and keeps the sessions that it opened. Sessions live in memory.

    Args:
        token: SHOP_ADMIN_TOKEN.
        shop: the shop's id; each daemon on this host has its own cookie.
        clock: monotonic seconds.
    """

    def __init__(self, token: str, *, shop: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.cookie = f"shop_poller_{hashlib.sha256(shop.encode()).hexdigest()[:8]}"
        self._token = _digest(token)
        self._clock = clock
        self._sessions: dict[str, float] = {}  # the digest of each session, and when it ends; oldest first
        self._wrong = 0.0
        self._wrong_at = clock()

    def accepts(self, token: str) -> bool:
        """Return whether this is the token. The time it takes reveals nothing about the token.

        Raises:
            TooManyError: no token is checked for now.
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

    def start_session(self) -> str:
        """Start a session; return the value of its cookie. The token cannot be derived from it."""
        session = secrets.token_urlsafe(32)
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(session)] = self._clock() + SESSION_S
        return session

    def is_signed_in(self, request: Request) -> bool:
        """Return whether the request comes from a browser that is signed in."""
        return self._sessions.get(_digest(request.cookies.get(self.cookie, "")), 0.0) > self._clock()

    def end_session(self, request: Request) -> None:
        """End the session of a request."""
        self._sessions.pop(_digest(request.cookies.get(self.cookie, "")), None)


def bearer(request: Request) -> str | None:
    """Return the token that a program sent; None if it sent none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def same_origin(request: Request) -> bool:
    """Return whether our own page sent a form, as browsers report it in one of two headers.

    Browsers send Sec-Fetch-Site to https and to this machine only, and Origin with every form. Behind a
    proxy that ends TLS, our scheme is not the browser's, so only hosts and ports are compared.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
