"""What a shop's bytes mean: JSON, or one of our errors. Pure; docs/woocommerce.md has the traps.

WordPress speaks in three tongues: JSON-RPC from MCP endpoints (jsonrpc.py), `{code, message, data: {status}}`
from everything else of its own, and HTML from whatever stands in front. Codes are stable, messages are
translated.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from shop_poller.core.errors import DOWN_STATUSES, ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.plain_text import one_line
from shop_poller.http.client import retry_after_s
from shop_poller.sources.woocommerce.quoting import before_data, without_values
from shop_poller.sources.woocommerce.redirects import Reason, read_redirect
from shop_poller.sources.woocommerce.rows import describe, find_rows, is_order
from shop_poller.sources.woocommerce.walls import wall_of
from shop_poller.sources.woocommerce.whole_json import find_json

MAX_QUOTE = 200
MAX_PARTS = 1_500_000
"""Values in an answer: two bytes on the wire may take a hundred in memory. 32 MB of real orders have about as
many, one for 24 bytes."""

PERSONAL = re.compile(r"[^\s@'\"<>]{1,100}@[^\s@'\"<>]{1,100}|\+?[0-9](?:[ ()-]{0,2}[0-9]){6,}")
"""E-mail addresses and telephone numbers: PHP and SQL quote what they choke on."""

PAGE = re.compile(rb"<!doctype\s+html|<(?:html|head|body|title|meta|h[1-6])[\s>]", re.IGNORECASE)
"""What a page for people has, and a notice of PHP has not."""

MARKUP = re.compile(r"<!--|-->|<(?!!--)[^>]{0,2000}>")

PERMANENT = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND, ErrorKind.REJECTED})

STATUSES = {
    401: ErrorKind.AUTHENTICATION,
    403: ErrorKind.AUTHENTICATION,
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    410: ErrorKind.NOT_FOUND,
    429: ErrorKind.RATE_LIMIT,
    **dict.fromkeys(DOWN_STATUSES, ErrorKind.UNAVAILABLE),
}

SLOW = "check whether the shop's own pages are slow, too"
REACHABLE = "check whether it runs, and whether its firewall lets Cloudflare pass"

ORIGIN = {
    520: "Cloudflare got no sensible answer from the shop's server; look into that server's log",
    521: f"the shop's server refuses Cloudflare's connections; {REACHABLE}",
    522: f"the shop's server did not take Cloudflare's connection in time; {REACHABLE}",
    523: "Cloudflare cannot reach the shop's server; check the domain's DNS records in Cloudflare",
    524: f"the shop's server did not answer Cloudflare in time; {SLOW}",
    525: "Cloudflare and the shop's server do not agree on TLS; check its certificate",
    526: "the certificate of the shop's server is not valid for Cloudflare; renew it",
    527: f"Cloudflare lost the shop's server; {REACHABLE}",
    530: "Cloudflare does not find the shop's server; check the domain's DNS records",
}
"""What Cloudflare says of a shop that is down; no shop says so itself."""

Advice = Mapping[ErrorKind, str]
"""What to do about an error of a kind; each dialect adds its own."""

COMMON_ADVICE = {
    ErrorKind.SERVER: "look into the shop's PHP error log",
}

UPDATED = "the shop is probably being updated"
"""What `Retry-After` beside a 503 stands for: WordPress sends it during every update."""

UNAVAILABLE_ADVICE = {
    502: "PHP is restarting or down; if it lasts, look into the log of the shop's server",
    503: "the shop's server is overloaded, restarting or being updated; if it lasts, look into its log",
    504: f"PHP did not answer the web server in time; {SLOW}",
}
"""What to do about each status that says that the shop's server is there, and the shop is not."""

T = TypeVar("T", list[Any], dict[str, Any])


def read_json(
    expected: type[T],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    advice: Advice = COMMON_ADVICE,
) -> tuple[T, str]:
    """Read an answer in plain JSON, whatever stands around it.

    Args:
        expected: what it is to be; a list may also be a PHP list that became an object, or have a wrapping.
        status: HTTP's.
        headers: with lower-case names.
        body: unpacked.
        advice: the dialect's.

    Returns:
        The answer, and one line of what stood around it; "" if nothing did.

    Raises:
        TemporaryError, PermanentError: whatever else it says.
    """
    payload, preamble = parse(body)
    rows = [] if _tells_of_none(status, headers, body, payload) else find_rows(payload)
    if status != 429 and isinstance(payload, dict) and "code" in payload and rows is None:
        raise rest_error(payload, status, headers, advice)
    found: Any = payload
    if issubclass(expected, list):
        found = rows
    elif isinstance(payload, list) and rows:
        found = {"data": rows}
    if not _may_answer(status, headers, rows) or not isinstance(found, expected):
        raise no_answer("a list of orders", status, headers, body, payload=payload, advice=advice)
    return found, preamble


MADE_AN_ORDER = 201
"""What is answered to a question that the shop took for an order to be made."""

BEGINS_EMPTY = re.compile(rb"(?:\xef\xbb\xbf|\s)*\[\s*\]")


def _may_answer(status: int, headers: Mapping[str, str], rows: list[Any] | None) -> bool:
    """Whether an answer with these rows is one, whatever its status says.

    PHP answers 500 when it fails after the answer was written, plugins set 404 or 503 for a whole site, and
    proxies that change a page make 203 of 200. Orders are orders all the same; that there are none is
    believed of a status that says so, or of a shop that counts them.
    """
    if status in {MADE_AN_ORDER, 429}:
        return False
    return 200 <= status < 300 or (any(map(is_order, rows or ())) if rows else _counts_none(headers))


def _counts_none(headers: Mapping[str, str]) -> bool:
    return headers.get("x-wp-total", "").strip() == "0"


def _tells_of_none(status: int, headers: Mapping[str, str], body: bytes, payload: object) -> bool:
    """Whether a shop counts no orders, and wrote nothing that could be any: {}, null, [] and an error."""
    if status == 429 or not _counts_none(headers) or b'"id"' in body:
        return False
    if BEGINS_EMPTY.match(body):
        return True
    is_error = isinstance(payload, dict) and "code" in payload and "message" in payload
    return not is_error and (payload is not None or body.strip() == b"null")


def no_answer(
    wanted: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    payload: object,
    advice: Advice = COMMON_ADVICE,
) -> ShopPollerError:
    """The error for an answer that is not what it should be; it says what the shop sent instead.

    Args:
        wanted: what it should be, for people.
        status: HTTP's.
        headers: with lower-case names.
        body: unpacked.
        payload: the JSON that was found in it; None if there is none.
        advice: the dialect's.
    """
    if not 200 <= status < 300 or PAGE.search(body) or wall_of(headers, body) is not None:
        return http_error(status, headers, body, advice)
    said = quote(body[: 20 * MAX_QUOTE].decode("utf-8", "replace"))
    begun = body.lstrip()[:1]
    if payload is not None or body.strip() == b"null":
        sent = describe(payload)
    elif not said:
        sent = "an empty page"
    elif begun in {b"{", b"["}:
        sent = "JSON that is cut off or broken"
    else:
        sent = f"text ({said})"
    return TemporaryError(
        ErrorKind.PROTOCOL,
        f"HTTP {status} with {sent} instead of {wanted}; look for a plugin or cache that changes the answers"
        " of the shop's API",
    )


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
        f"{code_word(payload.get('code'))}: {word(payload.get('message'))}",
        headers or {},
        advice,
    )


def http_error(
    status: int, headers: Mapping[str, str], body: bytes, advice: Advice = COMMON_ADVICE
) -> ShopPollerError:
    """The error for an answer that is not JSON, or not the JSON that it should be."""
    said = quote(body[: 20 * MAX_QUOTE].decode("utf-8", "replace")) or "an empty page"
    if status != 429 and (wall := wall_of(headers, body)) is not None:
        return TemporaryError(ErrorKind.PROTOCOL, f"{wall.name}, HTTP {status}; {wall.advice}")
    if status in ORIGIN:
        return TemporaryError(
            STATUSES[status], f"HTTP {status}: {ORIGIN[status]}", retry_after_s=retry_after_s(headers)
        )
    if status < 300 or status == 403:  # a captcha or a firewall's page; WordPress itself answers in JSON
        return TemporaryError(
            ErrorKind.PROTOCOL,
            f"HTTP {status} with a page instead of an answer ({said}); a firewall, captcha or cache may"
            " stand before the shop: let it pass the shop's API",
        )
    if status == 404 and (api := api_root(headers)):
        # A dialect's general advice would contradict it.
        said = f"{said}; the shop says that its API is at {api}: set WOOCOMMERCE_MCP_URL={api}wc/v3/orders"
        advice = {}
    return by_status(status, said, headers, advice)


class RedirectedError(PermanentError):
    """The shop redirects to another address."""


def redirect_error(status: int, requested: str, headers: Mapping[str, str]) -> ShopPollerError:
    """The error for a redirect, which is not followed: keys are for one address.

    Args:
        status: HTTP's.
        requested: the address that was asked.
        headers: with lower-case names.
    """
    redirect = read_redirect(requested, headers.get("location", ""))
    begin = f"the shop redirects to {redirect.to}" if redirect.to else "the shop redirects elsewhere"
    message = f"{begin} (HTTP {status})"
    if redirect.reason is Reason.WAITING:
        return TemporaryError(
            ErrorKind.UNAVAILABLE,
            f"{message}, which looks like a page for maintenance or for a shop that is not open yet;"
            " exclude /wp-json/ from it",
            retry_after_s=retry_after_s(headers),
        )
    if redirect.is_usable:
        advice = f"set WOOCOMMERCE_MCP_URL={redirect.to}"
        if redirect.reason is Reason.LANGUAGE:
            advice = f"exclude /wp-json/ in the plugin for languages, or {advice}"
        return RedirectedError(ErrorKind.NOT_FOUND, f"{message}; {advice}")
    return RedirectedError(ErrorKind.NOT_FOUND, f"{message}{REDIRECTED[redirect.reason]}")


REDIRECTED = {
    Reason.NOWHERE: ", and the redirect has no usable address; check WOOCOMMERCE_MCP_URL, or look for a"
    " plugin that redirects",
    Reason.SAME: ", the address that was asked: a loop, or a firewall that requires cookies or a browser; let"
    " it exclude /wp-json/, or check WOOCOMMERCE_MCP_URL",
    Reason.HTTP: ", which is not encrypted, and keys are not sent like that; set the shop's own address under"
    " Settings → General to https, or check WOOCOMMERCE_MCP_URL",
    Reason.LOGIN: ", its page to sign in; a plugin hides the shop from visitors: let it exclude /wp-json/,"
    " or check WOOCOMMERCE_MCP_URL",
} | dict.fromkeys(
    (Reason.HTTPS, Reason.HOST, Reason.SLASH, Reason.LANGUAGE, Reason.PATH, Reason.PAGE),
    ", which is not its API; check WOOCOMMERCE_MCP_URL, or look for a plugin that redirects /wp-json/",
)
"""What to do where the new address is none for the settings."""

API_LINK = re.compile(r'<(https?://[^<>\s]{1,200})>;\s*rel="https://api\.w\.org/"')


def api_root(headers: Mapping[str, str]) -> str:
    """Where WordPress says, on each of its pages, that its API is; "" if it does not."""
    found = API_LINK.search(headers.get("link", ""))
    return read_redirect("", found[1]).to if found else ""


def by_status(status: int, said: str, headers: Mapping[str, str], advice: Advice) -> ShopPollerError:
    """The error that an HTTP status stands for."""
    others = {4: ErrorKind.REJECTED, 5: ErrorKind.SERVER}
    kind = STATUSES.get(status, others.get(status // 100, ErrorKind.PROTOCOL))
    if status in UNAVAILABLE_ADVICE:
        is_update = status == 503 and "retry-after" in headers
        advice = {ErrorKind.UNAVAILABLE: UPDATED if is_update else UNAVAILABLE_ADVICE[status]}
    return of_kind(kind, f"the shop answered {status}: {said}", advice, headers)


def of_kind(
    kind: ErrorKind, message: str, advice: Advice, headers: Mapping[str, str] | None = None
) -> ShopPollerError:
    """The error of a kind, with what to do about it."""
    if kind in advice:
        message = f"{message.rstrip('. ')}; {advice[kind]}"
    if kind in PERMANENT:
        return PermanentError(kind, message)
    return TemporaryError(kind, message, retry_after_s=retry_after_s(headers or {}))


def quote(text: str) -> str:
    """A few words of what the shop said, up to where data begin: one line, no markup, bounded."""
    said = before_data(text[: 8 * MAX_QUOTE])[: 4 * MAX_QUOTE]
    plain = before_data(MARKUP.sub(" ", said))
    words = PERSONAL.sub("***", one_line(without_values(plain), MAX_QUOTE))
    if not words and len(said) < len(text.rstrip()):
        return "data"  # an order, perhaps, with all that is known of a buyer
    return words


CODE = re.compile(r"[a-z0-9.:-]{1,80}|(?=[^_]*_)[A-Za-z0-9_.:-]{1,80}")


def code_word(value: object) -> str:
    """A code, such as rest_no_route or -32001; "?" for what is none."""
    if isinstance(value, int):
        return word(value)
    return value if isinstance(value, str) and CODE.fullmatch(value) else "?"


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


def parse(body: bytes) -> tuple[Any, str]:
    """Find the JSON in a body, and one line of what stands around it; None if there is none.

    Args:
        body: whatever came.

    Raises:
        TemporaryError: TOO_LARGE, see bound_parts.
    """
    if len(body) > MAX_PARTS:  # or there cannot be as many
        bound_parts(body)
    found = find_json(body)
    if found is None:
        return None, ""
    if isinstance(found.value, str) and found.value[:1] in {"[", "{"}:  # JSON within JSON
        inner = find_json(found.value.encode("utf-8", "replace"))
        found = found if inner is None else inner
    around = (piece[: 20 * MAX_QUOTE].decode("utf-8", "replace") for piece in (found.before, found.after))
    return found.value, " … ".join(filter(None, map(quote, around)))[:MAX_QUOTE]


MAX_COUNT = 2**53


def count(value: object) -> int | None:
    """A count that a shop tells, as a number or as text; None if it is no count."""
    if isinstance(value, str) and value.isascii() and value.strip().isdigit():
        value = int(value.strip()[:20])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None
