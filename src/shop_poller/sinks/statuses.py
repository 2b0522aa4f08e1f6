"""What the status of an HTTP answer says of a notification: a table, for all sinks that speak HTTP."""

from collections.abc import Mapping

from shop_poller.core.errors import DOWN_STATUSES, ErrorKind, PermanentError, ShopPollerError, TemporaryError

TEMPORARY: Mapping[int, ErrorKind] = {
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.REJECTED,
    425: ErrorKind.REJECTED,
    429: ErrorKind.RATE_LIMIT,
    **dict.fromkeys(DOWN_STATUSES, ErrorKind.UNAVAILABLE),
}
"""Statuses that pass. Of those that are not named, 5xx and above are SERVER: this delivery's failure."""

MAY_PASS = frozenset({401, 403, 404, 405})
"""Refusals that a receiver behind a proxy gives too while it starts."""


def refusal(status: int, message: str, *, retry_after_s: float | None = None) -> ShopPollerError:
    """The error for an answer that is neither 2xx nor a redirect.

    Args:
        status: HTTP's.
        message: what is said of it, without a secret.
        retry_after_s: seconds that the answer asks to wait.
    """
    if status in TEMPORARY:
        return TemporaryError(TEMPORARY[status], message, retry_after_s=retry_after_s)
    if status >= 500:
        return TemporaryError(ErrorKind.SERVER, message, retry_after_s=retry_after_s)
    if status == 410:
        return PermanentError(ErrorKind.GONE, f"{message}: do not send here any more")
    if status in MAY_PASS:
        return PermanentError(ErrorKind.REJECTED, message, may_pass=True)
    if status >= 400:
        return PermanentError(ErrorKind.REJECTED, message)
    return TemporaryError(ErrorKind.PROTOCOL, message)
