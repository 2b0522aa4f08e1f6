"""The MCP sessions of the shop's users."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

MAX_SESSIONS = 32
IDLE_LIFE = timedelta(hours=24)


@dataclass(frozen=True)
class _Session:
    user: str
    used: datetime


class Sessions:
    """Sessions by id, at most 32 per user. Each ends 24 hours after its last use.

    Args:
        clock: Returns the present instant, aware.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._sessions: dict[str, _Session] = {}

    def open(self, user: str) -> str:
        """Create a session; it replaces the user's oldest if there are too many."""
        now = self._clock()
        self._sessions = {key: one for key, one in self._sessions.items() if _alive(one, now)}
        mine = self.of(user)
        for session_id in mine[: max(0, len(mine) - MAX_SESSIONS + 1)]:
            del self._sessions[session_id]
        session_id = str(uuid.uuid4())
        self._sessions[session_id] = _Session(user, now)
        return session_id

    def use(self, user: str, session_id: str) -> bool:
        """Return whether the user has that session, and keep it alive."""
        now = self._clock()
        session = self._sessions.get(session_id)
        if session is None or session.user != user:
            return False
        if not _alive(session, now):
            del self._sessions[session_id]
            return False
        self._sessions[session_id] = replace(session, used=now)
        return True

    def close(self, user: str, session_id: str) -> None:
        """End a session; an unknown one is not an error."""
        if self.use(user, session_id):
            del self._sessions[session_id]

    def of(self, user: str) -> list[str]:
        """The ids of a user's sessions, oldest first."""
        return [key for key, session in self._sessions.items() if session.user == user]

    def lose_all(self) -> None:
        """Forget every session, as a restored backup or a cleared table does."""
        self._sessions = {}


def _alive(session: _Session, now: datetime) -> bool:
    return now <= session.used + IDLE_LIFE
