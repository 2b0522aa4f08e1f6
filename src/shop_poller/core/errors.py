"""The two errors that the whole program uses, and their kinds.

Every failure of a peer is mapped once, where it occurs (a source, a sink, a store), to one of the two. A
TemporaryError may go away by itself. A PermanentError stays until a person fixes its cause.
"""

from enum import StrEnum
from typing import Self

from shop_poller.core.plain_text import plain
from shop_poller.core.translatable import Text


class ErrorKind(StrEnum):
    """What went wrong, in one word: the label `error_type` of metrics and alerts."""

    CONNECTION = "ConnectionError"  # no server responds, or the connection broke
    TIMEOUT = "TimeoutError"  # no complete response in time
    RATE_LIMIT = "RateLimitError"  # 429
    UNAVAILABLE = "UnavailableError"  # 502, 503, 504: maintenance, or a gateway whose server is down
    SERVER = "ServerError"  # the peer failed while it processed the request: 500, a fatal error of PHP
    AUTHENTICATION = "AuthenticationError"  # keys are wrong, revoked, or without the permission
    NOT_FOUND = "NotFoundError"  # no such endpoint or tool
    REJECTED = "RejectedError"  # the peer reports that our request is wrong: other 4xx
    GONE = "GoneError"  # 410: never send here again
    PROTOCOL = "ProtocolError"  # an invalid response: a captcha page, garbage, half a list
    TOO_LARGE = "ResponseTooLargeError"  # a response above the size limit
    NO_SUBSCRIBER = "NoSubscriberError"  # published, but nobody was subscribed
    CIRCUIT_OPEN = "CircuitOpenError"  # no request was sent: too many failures in a row
    STORE = "StoreError"  # our own state cannot be read or written
    INTERNAL = "InternalError"  # a bug in shop-poller


PEER_DOWN = frozenset(
    {
        ErrorKind.CONNECTION,
        ErrorKind.TIMEOUT,
        ErrorKind.RATE_LIMIT,
        ErrorKind.UNAVAILABLE,
        ErrorKind.NO_SUBSCRIBER,
    }
)
"""Kinds that concern the peer as a whole, not the request."""

RETRY_AT_ONCE = frozenset(
    {
        ErrorKind.CONNECTION,
        ErrorKind.TIMEOUT,
        ErrorKind.RATE_LIMIT,
        ErrorKind.UNAVAILABLE,
        ErrorKind.SERVER,
    }
)
"""Kinds for which a retry within seconds may work."""


class ShopPollerError(Exception):
    """The base of both errors. Its text is always a single line, even if a peer wrote part of it.

    Attributes:
        kind: what went wrong.
        text: the message as it was given; a Text can be shown in another language.
        status: the HTTP status of the peer's response; None if there was none.
        words: the beginning of what the peer said, without the secrets of its address; "" if it said nothing.
            They are not part of the text, because they may contain a buyer's data, which no log may contain.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(plain(message))
        self.kind = kind
        self.text = message
        self.status: int | None = None
        self.words = ""

    def answered(self, status: int, words: str = "") -> Self:
        """Add the peer's response to the error, and return the error."""
        self.status, self.words = status, words
        return self


class TemporaryError(ShopPollerError):
    """A failure that may go away by itself.

    Attributes:
        retry_after_s: seconds that the peer asked us to wait; None if it did not.
        probe_after_s: seconds after which the address may lead to another server that works; None if
            unknown.
        has_advice: the message says what to do, so no general advice is added.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        retry_after_s: float | None = None,
        probe_after_s: float | None = None,
        has_advice: bool = False,
    ) -> None:
        super().__init__(kind, message)
        self.retry_after_s = retry_after_s
        self.probe_after_s = probe_after_s
        self.has_advice = has_advice


class PermanentError(ShopPollerError):
    """A failure that lasts until somebody changes something.

    Attributes:
        may_pass: a peer that starts or is updated gives the same response, so the failure is final only
            after it has lasted; see core.refusals.
        may_be_done: the peer may have done what we requested, although it did not confirm it.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, may_pass: bool = False, may_be_done: bool = False
    ) -> None:
        super().__init__(kind, message)
        self.may_pass = may_pass
        self.may_be_done = may_be_done


def text_of(error: BaseException) -> str:
    """Return the message of an error as it was given; a Text can be shown in another language."""
    if isinstance(error, ShopPollerError):
        return error.text
    return error.args[0] if error.args and isinstance(error.args[0], Text) else str(error)


DOWN_STATUSES = frozenset(
    {
        502,  # bad gateway
        503,  # maintenance, overload
        504,  # the gateway got no response
        509,  # bandwidth used up (cPanel)
        520,  # Cloudflare, up to 527: the server behind it sent an invalid response
        521,  # the server is down
        522,  # no connection in time
        523,  # no route to the server
        524,  # no response in time
        525,  # no TLS handshake
        526,  # a bad certificate
        527,  # Railgun lost its server
        529,  # overloaded
        530,  # Cloudflare cannot resolve the server; a frozen site (Pantheon)
        540,  # paused by its owner (Shopify)
        598,  # read timeout of a proxy
        599,  # connect timeout of a proxy
    }
)
"""HTTP statuses that do not concern the request: a server, or the peer behind a proxy, is down."""
