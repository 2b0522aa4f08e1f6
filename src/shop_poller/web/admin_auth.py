"""Decides who may read and act: programs with a token, and browsers that signed in with one."""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

SESSION_S = 12 * 3600.0
MOST_SESSIONS = 16
"""Of each token. The oldest session ends when there are more."""
WRONG_AT_ONCE = 5
WRONG_EVERY_S = 12.0
"""How many wrong tokens are checked: some at once, then one per interval. Sessions are not affected."""


class TooManyError(Exception):
    """There were too many wrong tokens; no token is checked for now."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows.

    Attributes:
        acts: every action, too; else only reading.
        shops: the ids of the shops that may be read; None for all.
    """

    acts: bool = False
    shops: frozenset[str] | None = None

    def shows(self, shop: str) -> bool:
        """Return whether this shop may be read."""
        return self.shops is None or shop in self.shops


ADMIN = Grant(acts=True)
READS_ALL = Grant()


class AdminAuth:
    """Checks tokens, and keeps the sessions that they opened. Sessions live in memory.

    Args:
        token: SHOP_ADMIN_TOKEN; None if nobody may act.
        shop: the shop's id; each daemon on this host has its own cookie.
        readers: what each other token allows. If there is any, nothing may be read without a token.
        clock: monotonic seconds.

    Attributes:
        has_actions: whether anybody may act.
        guards_reading: whether reading needs a token.
    """

    def __init__(
        self,
        token: str | None,
        *,
        shop: str,
        readers: Mapping[str, Grant] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cookie = f"shop_poller_{hashlib.sha256(shop.encode()).hexdigest()[:8]}"
        self.has_actions = token is not None
        self.guards_reading = bool(readers)
        self._grants = {_digest(text): grant for text, grant in (readers or {}).items()}
        if token is not None:
            self._grants[_digest(token)] = ADMIN
        self._clock = clock
        # By the digest of each session: what it allows, and when it ends; the oldest first.
        self._sessions: dict[str, tuple[Grant, float]] = {}
        self._wrong = 0.0
        self._wrong_at = clock()

    def grant_of(self, token: str) -> Grant | None:
        """Return what a token allows; None if it is wrong. The time it takes reveals nothing about tokens.

        Raises:
            TooManyError: no token is checked for now.
        """
        now = self._clock()
        self._wrong = max(0.0, self._wrong - (now - self._wrong_at) / WRONG_EVERY_S)
        self._wrong_at = now
        if self._wrong > WRONG_AT_ONCE - 1:
            raise TooManyError
        shown = _digest(token)
        # Digests are compared, and nobody can choose how the digest of a guess begins.
        grant = self._grants.get(shown)
        if grant is None:
            self._wrong += 1
        return grant

    def start_session(self, grant: Grant) -> str:
        """Start a session; return the value of its cookie. The token cannot be derived from it."""
        session, now = secrets.token_urlsafe(32), self._clock()
        self._sessions = {key: kept for key, kept in self._sessions.items() if kept[1] > now}
        same = [key for key, (other, _) in self._sessions.items() if other == grant]
        for key in same[: max(0, len(same) - MOST_SESSIONS + 1)]:
            del self._sessions[key]
        self._sessions[_digest(session)] = grant, now + SESSION_S
        return session

    def session_grant(self, request: Request) -> Grant | None:
        """Return what a browser may that is signed in; None if it is not."""
        grant, ends_at = self._sessions.get(_digest(request.cookies.get(self.cookie, "")), (None, 0.0))
        return grant if ends_at > self._clock() else None

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
