"""What a bad answer of a shop must become, for tables of such answers."""

from dataclasses import dataclass

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError

MAYBE_LOST = {400, 403, 404, 405, 410}
"""Statuses that may mean a lost session, where there is one: they cost one new session and one repeat."""


@dataclass(frozen=True)
class Refusal:
    """An expected error."""

    kind: ErrorKind
    words: tuple[str, ...] = ()
    lasting: bool = False
    retry_after_s: float | None = None

    def check(self, error: ShopPollerError) -> None:
        assert error.kind is self.kind
        assert isinstance(error, PermanentError if self.lasting else TemporaryError)
        for word in self.words:
            assert word in str(error)
        if isinstance(error, TemporaryError):
            assert error.retry_after_s == self.retry_after_s


def passing(kind: ErrorKind, *words: str, retry_after_s: float | None = None) -> Refusal:
    return Refusal(kind, words, retry_after_s=retry_after_s)


def lasting(kind: ErrorKind, *words: str) -> Refusal:
    return Refusal(kind, words, lasting=True)


def keys_wrong(*words: str) -> Refusal:
    return lasting(ErrorKind.AUTHENTICATION, *words)
