"""What a shop's bytes mean: JSON, or one of our errors. Pure; docs/woocommerce.md has the traps.

WordPress speaks in three tongues: JSON-RPC from MCP endpoints (jsonrpc.py), `{code, message, data: {status}}`
from everything else of its own, and HTML from whatever stands in front. Codes are stable, messages are
translated.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic_core import from_json

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.httpclient import one_line, retry_after_s

MAX_QUOTE = 200
MAX_PARTS = 1_500_000
"""Values in an answer: two bytes on the wire may take a hundred in memory. 32 MB of real orders have about as
many, one for 24 bytes."""

JSON_DATA = re.compile(r'\s*[{\[]\s*["{\[]')
PERSONAL = re.compile(r"[^\s@'\"<>]{1,100}@[^\s@'\"<>]{1,100}|\+?[0-9](?:[ ()-]{0,2}[0-9]){6,}")
"""E-mail addresses and telephone numbers: PHP and SQL quote what they choke on."""

PERMANENT = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND, ErrorKind.REJECTED})

STATUSES = {
    401: ErrorKind.AUTHENTICATION,
    403: ErrorKind.AUTHENTICATION,
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    410: ErrorKind.NOT_FOUND,
    429: ErrorKind.RATE_LIMIT,
    502: ErrorKind.UNAVAILABLE,
    503: ErrorKind.UNAVAILABLE,
    504: ErrorKind.UNAVAILABLE,
}

Advice = Mapping[ErrorKind, str]
"""What to do about an error of a kind; each dialect adds its own."""

COMMON_ADVICE = {
    ErrorKind.UNAVAILABLE: "the shop is probably being updated",
    ErrorKind.SERVER: "look into the shop's PHP error log",
}

T = TypeVar("T", list[Any], dict[str, Any])


def read_json(
    expected: type[T],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    starts: tuple[bytes, ...],
    advice: Advice = COMMON_ADVICE,
) -> tuple[T, str]:
    """Read an answer in plain JSON.

    Args:
        expected: what it is to be.
        status: HTTP's.
        headers: with lower-case names.
        body: unpacked.
        starts: how good answers begin, to be found behind noise.
        advice: the dialect's.

    Returns:
        The answer, and one line of what stood before it; "" if nothing did.

    Raises:
        TemporaryError, PermanentError: whatever else it says.
    """
    payload, noise = parse(body, starts)
    if status != 429 and isinstance(payload, dict) and "code" in payload:
        raise rest_error(payload, status, headers, advice)
    if status != 200 or not isinstance(payload, expected):
        raise http_error(status, headers, body, advice)
    return payload, noise


def rest_error(
    payload: Mapping[str, Any],
    status: int,
    headers: Mapping[str, str] | None = None,
    advice: Advice = COMMON_ADVICE,
) -> ShopPollerError:
    """The error for WordPress's own `{code, message, data: {status}}`, which may come as HTTP 200."""
    data = payload.get("data")
    own = data.get("status") if isinstance(data, dict) else None
    return by_status(
        own if isinstance(own, int) and 100 <= own <= 599 else status,
        f"{word(payload.get('code'))}: {word(payload.get('message'))}",
        headers or {},
        advice,
    )


def http_error(
    status: int, headers: Mapping[str, str], body: bytes, advice: Advice = COMMON_ADVICE
) -> ShopPollerError:
    """The error for an answer that is not JSON, or not the JSON that it should be."""
    said = quote(body[: 20 * MAX_QUOTE].decode("utf-8", "replace")) or "an empty page"
    if 300 <= status < 400:
        return PermanentError(
            ErrorKind.NOT_FOUND,
            "the shop's address redirects elsewhere; set WOOCOMMERCE_MCP_URL to the final one",
        )
    if status < 300 or status == 403:  # a captcha or a firewall's page; WordPress itself answers in JSON
        return TemporaryError(
            ErrorKind.PROTOCOL,
            f"HTTP {status} with a page instead of an answer ({said}); a firewall, captcha or cache may"
            " stand before the shop: let it pass the shop's API",
        )
    return by_status(status, said, headers, advice)


def by_status(status: int, said: str, headers: Mapping[str, str], advice: Advice) -> ShopPollerError:
    """The error that an HTTP status stands for."""
    others = {4: ErrorKind.REJECTED, 5: ErrorKind.SERVER}
    kind = STATUSES.get(status, others.get(status // 100, ErrorKind.PROTOCOL))
    return of_kind(kind, f"the shop answered {status}: {said}", advice, headers)


def of_kind(
    kind: ErrorKind, message: str, advice: Advice, headers: Mapping[str, str] | None = None
) -> ShopPollerError:
    """The error of a kind, with what to do about it."""
    if kind in advice:
        message = f"{message}; {advice[kind]}"
    if kind in PERMANENT:
        return PermanentError(kind, message)
    return TemporaryError(kind, message, retry_after_s=retry_after_s(headers or {}))


def quote(text: str) -> str:
    """A few words of what the shop said: one line, no markup, bounded."""
    if JSON_DATA.match(text):
        return "data"  # an order, perhaps, with all that is known of a buyer
    plain = re.sub(r"<[^>]{0,200}>", " ", text[: 4 * MAX_QUOTE])
    return PERSONAL.sub("***", one_line(plain, MAX_QUOTE))


def word(value: object) -> str:
    """What should be a word or a number; of anything else nothing is said."""
    return quote(str(value)) if isinstance(value, str | int) else "?"


def bound_parts(text: bytes, so_far: int = 0) -> int:
    """How many values of JSON, or lines, there are at most, counted without making anything of them.

    Args:
        text: an answer, or a piece of one.
        so_far: what the pieces before it came to.

    Raises:
        TemporaryError: TOO_LARGE, more than anybody needs.
    """
    count = so_far + sum(map(text.count, (b",", b"]", b"}", b"\n", b"\r")))
    if count > MAX_PARTS:
        raise TemporaryError(ErrorKind.TOO_LARGE, f"the shop's answer has more than {MAX_PARTS:,} values")
    return count


def parse(body: bytes, starts: tuple[bytes, ...] = ()) -> tuple[Any, str]:
    """Parse a body, or what follows the noise in it; None if it is no JSON.

    Args:
        body: whatever came.
        starts: how good answers begin; one that ends the body may be whole ("[]").

    Raises:
        TemporaryError: TOO_LARGE, see bound_parts.
    """
    if len(body) > MAX_PARTS:  # or there cannot be as many
        bound_parts(body)
    for start in (0, *_behind_noise(body, starts)):
        try:
            payload = from_json(body[start:], allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            continue
        return payload, quote(body[:start].decode("utf-8", "replace"))
    return None, ""


EMPTY_LIST = b"[]"


def _behind_noise(body: bytes, starts: tuple[bytes, ...]) -> list[int]:
    """Where an answer may begin that has words of PHP before it.

    One that begins at once is broken further on, or was cut: what stands in it is not the answer, least of
    all an empty list at its end, which would read as "nothing changed".
    """
    whole, marks = body.rstrip(), [mark for mark in starts if mark != EMPTY_LIST]
    if body.lstrip().startswith(tuple(marks)):
        return []
    found = sorted(at for mark in marks if (at := body.find(mark, 1)) > 0)
    if not found and EMPTY_LIST in starts and whole.endswith(EMPTY_LIST):
        found = [len(whole) - len(EMPTY_LIST)]
    return found[:1]
