"""What the status of an HTTP response means for a notification, for all sinks that use HTTP."""

from collections.abc import Mapping

from shop_poller.core.errors import DOWN_STATUSES, ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.translatable import Text

TEMPORARY: Mapping[int, ErrorKind] = {
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.REJECTED,
    425: ErrorKind.REJECTED,
    429: ErrorKind.RATE_LIMIT,
    **dict.fromkeys(DOWN_STATUSES, ErrorKind.UNAVAILABLE),
}
"""Temporary statuses. Any other status from 500 on is SERVER, a failure of this delivery only."""

MAY_PASS = frozenset({401, 403, 404, 405})
"""Refusals that a proxy also sends while the receiver behind it starts."""


def refusal(status: int, message: str, *, retry_after_s: float | None = None) -> ShopPollerError:
    """Return the error for a response that is neither 2xx nor a redirect.

    Args:
        status: the HTTP status.
        message: the text of the error, without a secret.
        retry_after_s: how many seconds the response asks us to wait.
    """
    if status in TEMPORARY:
        return TemporaryError(TEMPORARY[status], message, retry_after_s=retry_after_s)
    if status >= 500:
        return TemporaryError(ErrorKind.SERVER, message, retry_after_s=retry_after_s)
    if status == 410:
        return PermanentError(ErrorKind.GONE, Text("{answered}: do not send here any more", answered=message))
    if status in MAY_PASS:
        return PermanentError(ErrorKind.REJECTED, message, may_pass=True)
    if status >= 400:
        return PermanentError(ErrorKind.REJECTED, message)
    return TemporaryError(ErrorKind.PROTOCOL, message)
