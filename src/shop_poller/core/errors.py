"""The two errors that the house knows, and their named kinds.

Whatever goes wrong outside is mapped once, at the edge (a source, a sink, a store), to one of the two:
a TemporaryError may go away by itself, a PermanentError will not until a person does something.
"""

from enum import StrEnum

from shop_poller.core.plain_text import plain


class ErrorKind(StrEnum):
    """What went wrong, in a word: the label `error_type` of the metrics and of the alerts."""

    CONNECTION = "ConnectionError"  # nobody there, or the connection broke
    TIMEOUT = "TimeoutError"  # no whole answer in time
    RATE_LIMIT = "RateLimitError"  # 429
    UNAVAILABLE = "UnavailableError"  # 502, 503, 504: maintenance, a gateway without its server
    SERVER = "ServerError"  # the peer broke while it worked on this: 500, a PHP fatal
    AUTHENTICATION = "AuthenticationError"  # keys wrong, revoked, or without the right
    NOT_FOUND = "NotFoundError"  # no such endpoint or tool
    REJECTED = "RejectedError"  # the peer says that what we sent is wrong: other 4xx
    GONE = "GoneError"  # 410: never send here again
    PROTOCOL = "ProtocolError"  # an answer that is none: a captcha page, garbage, half a list
    TOO_LARGE = "ResponseTooLargeError"  # an answer above the bound
    NO_SUBSCRIBER = "NoSubscriberError"  # published, and nobody was there to get it
    CIRCUIT_OPEN = "CircuitOpenError"  # not asked: too many failures in a row
    STORE = "StoreError"  # our own state cannot be read or written
    INTERNAL = "InternalError"  # a bug of ours


PEER_DOWN = frozenset(
    {
        ErrorKind.CONNECTION,
        ErrorKind.TIMEOUT,
        ErrorKind.RATE_LIMIT,
        ErrorKind.UNAVAILABLE,
        ErrorKind.NO_SUBSCRIBER,
    }
)
"""Kinds that speak of the peer as a whole, not of what was sent to it."""

RETRY_AT_ONCE = frozenset(
    {
        ErrorKind.CONNECTION,
        ErrorKind.TIMEOUT,
        ErrorKind.RATE_LIMIT,
        ErrorKind.UNAVAILABLE,
        ErrorKind.SERVER,
    }
)
"""Kinds worth another try within seconds."""


class ShopPollerError(Exception):
    """What both errors share. Its text is one line, whoever wrote a part of it.

    Attributes:
        kind: what went wrong, in a word.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(plain(message))
        self.kind = kind


class TemporaryError(ShopPollerError):
    """It may work later.

    Attributes:
        retry_after_s: seconds that the peer asked us to wait, if it did.
        probe_after_s: seconds after which the address may lead to another server that works; None if
            nothing says so.
        has_advice: the message says what to do, so that nothing general is to be added.
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
    """It will not work until somebody changes something.

    Attributes:
        may_pass: a peer that is starting or being updated gives the same answer, so that it is final only
            after it has lasted; see core.refusals.
        may_be_done: the peer may have done what it was asked to do, although it did not say yes.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, may_pass: bool = False, may_be_done: bool = False
    ) -> None:
        super().__init__(kind, message)
        self.may_pass = may_pass
        self.may_be_done = may_be_done


DOWN_STATUSES = frozenset(
    {
        502,  # bad gateway
        503,  # maintenance, overload
        504,  # the gateway got no answer
        509,  # bandwidth used up (cPanel)
        520,  # Cloudflare, up to 527: the server behind it sent an invalid answer
        521,  # the server is down
        522,  # no connection in time
        523,  # no route to the server
        524,  # no answer in time
        525,  # no TLS handshake
        526,  # a bad certificate
        527,  # Railgun lost its server
        529,  # overloaded
        530,  # Cloudflare does not find the server; a site that was frozen (Pantheon)
        540,  # paused by its owner (Shopify)
        598,  # a proxy's timeout of reading
        599,  # a proxy's timeout of connecting
    }
)
"""HTTP statuses that say nothing about the request: a server, or the peer behind a proxy, is down."""
