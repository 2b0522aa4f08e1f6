"""The attempts of a delivery: what each one led to. Pure.

Only the first attempt and the latest ones are kept, so that the log of a delivery has a bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.plain_text import one_line

DELIVERED = "delivered"
"""The kind of an attempt that the sink accepted. Any other kind is an ErrorKind."""
MOST_ATTEMPTS = 10
"""The most attempts kept of a delivery: the first one, and the latest ones."""
MOST_WORDS = 200
"""The most characters kept of what a receiver said."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send a delivery.

    Attributes:
        at: when it started, by our clock.
        took_ms: how long it took.
        kind: DELIVERED, or the kind of the error.
        status: the HTTP status of the response; None if there was none, or the sink does not use HTTP.
        words: what the receiver said, or else the error text: one line of at most MOST_WORDS characters,
            without secrets; "" if it was delivered.
    """

    at: datetime
    took_ms: int
    kind: str
    status: int | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The attempts of one delivery.

    Attributes:
        count: how many there were.
        kept: the first one and the latest ones, in their order; at most MOST_ATTEMPTS.
    """

    count: int = 0
    kept: tuple[Attempt, ...] = ()

    def plus(self, made: Sequence[Attempt]) -> "AttemptLog":
        """Return the log with further attempts."""
        if not made:
            return self
        kept = (*self.kept, *made)
        if len(kept) > MOST_ATTEMPTS:
            kept = (kept[0], *kept[1 - MOST_ATTEMPTS :])
        return AttemptLog(self.count + len(made), kept)

    @property
    def last(self) -> Attempt | None:
        """The latest attempt; None if there is none."""
        return self.kept[-1] if self.kept else None

    @property
    def omitted(self) -> int:
        """How many attempts after the first one are not kept."""
        return self.count - len(self.kept)


NO_ATTEMPTS = AttemptLog()


def failed(at: datetime, took_ms: int, error: ShopPollerError, mask: Callable[[str], str]) -> Attempt:
    """Return a failed attempt.

    Args:
        at: when it started.
        took_ms: how long it took.
        error: contains what the receiver said.
        mask: removes secrets from a text. It is called before the text is cut.
    """
    words = one_line(mask(error.words or str(error)), MOST_WORDS)
    return Attempt(at, took_ms, error.kind, error.status, words)
