"""What a shop's bytes mean: JSON, or one of our errors. Pure; docs/woocommerce.md lists the pitfalls.

A WordPress site answers in three formats: JSON-RPC from MCP endpoints (jsonrpc.py), `{code, message, data:
{status}}` from the rest of WordPress, and HTML from anything in front of it. Codes are stable. Messages are
translated.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from shop_poller.core.errors import DOWN_STATUSES, ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text, joined
from shop_poller.http.client import retry_after_s
from shop_poller.sources.woocommerce.quoting import before_data, without_values
from shop_poller.sources.woocommerce.redirects import Reason, read_redirect
from shop_poller.sources.woocommerce.rows import describe, find_rows, is_order
from shop_poller.sources.woocommerce.walls import wall_of
from shop_poller.sources.woocommerce.whole_json import find_json

MAX_QUOTE = 200
MAX_PARTS = 1_500_000
"""Values in an answer: two bytes on the wire may take a hundred bytes in memory. 32 MB of real orders contain
about as many: one per 24 bytes."""

PERSONAL = re.compile(r"[^\s@'\"<>]{1,100}@[^\s@'\"<>]{1,100}|\+?[0-9](?:[ ()-]{0,2}[0-9]){6,}")
"""E-mail addresses and telephone numbers: PHP and SQL quote the values that they cannot process."""

PAGE = re.compile(rb"<!doctype\s+html|<(?:html|head|body|title|meta|h[1-6])[\s>]", re.IGNORECASE)
"""Markup that a page for people contains, and a PHP notice does not."""

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

SLOW = Text("check whether the shop's own pages are slow, too")
REACHABLE = Text("check whether it runs, and whether its firewall lets Cloudflare pass")

ORIGIN = {
    520: Text("Cloudflare received no valid response from the shop's server; look into that server's log"),
    521: Text("the shop's server refuses Cloudflare's connections; {reachable}", reachable=REACHABLE),
    522: Text(
        "the shop's server did not take Cloudflare's connection in time; {reachable}", reachable=REACHABLE
    ),
    523: Text("Cloudflare cannot reach the shop's server; check the domain's DNS records in Cloudflare"),
    524: Text("the shop's server did not answer Cloudflare in time; {slow}", slow=SLOW),
    525: Text("Cloudflare and the shop's server do not agree on TLS; check its certificate"),
    526: Text("the certificate of the shop's server is not valid for Cloudflare; renew it"),
    527: Text("Cloudflare lost the connection to the shop's server; {reachable}", reachable=REACHABLE),
    530: Text("Cloudflare cannot find the shop's server; check the domain's DNS records"),
}
"""Statuses that Cloudflare sends for a shop that is down. No shop sends them itself."""

Advice = Mapping[ErrorKind, str]
"""What to do about an error of a kind; each dialect adds its own."""

COMMON_ADVICE = {
    ErrorKind.SERVER: Text("look into the shop's PHP error log"),
}

UPDATED = Text("the shop is probably being updated")
"""What a 503 with `Retry-After` means: WordPress sends it during every update."""

UNAVAILABLE_ADVICE = {
    502: Text("PHP is restarting or down; if it lasts, look into the log of the shop's server"),
    503: Text("the shop's server is overloaded, restarting or being updated; if it lasts, look into its log"),
    504: Text("PHP did not answer the web server in time; {slow}", slow=SLOW),
}
"""What to do about each status that means that the shop's server runs, but the shop does not."""

T = TypeVar("T", list[Any], dict[str, Any])


def read_json(
    expected: type[T],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    advice: Advice = COMMON_ADVICE,
) -> tuple[T, str]:
    """Read an answer in plain JSON, and ignore any text around it.

    Args:
        expected: the type to expect. A list may also be a PHP list that became an object, or be wrapped.
        status: the HTTP status.
        headers: the headers, with lower-case names.
        body: the unpacked body.
        advice: the dialect's advice.

    Returns:
        The answer, and one line of the text around it ("" if there is none).

    Raises:
        TemporaryError, PermanentError: the answer says anything else.
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
        raise no_answer(Text("a list of orders"), status, headers, body, payload=payload, advice=advice)
    return found, preamble


MADE_AN_ORDER = 201
"""The status of a response to a read request that the shop treated as a new order."""

BEGINS_EMPTY = re.compile(rb"(?:\xef\xbb\xbf|\s)*\[\s*\]")


def _may_answer(status: int, headers: Mapping[str, str], rows: list[Any] | None) -> bool:
    """Return whether an answer with these rows is valid, even if its status is an error.

    PHP answers 500 if it fails after it wrote the answer. Plugins set 404 or 503 for a whole site. Proxies
    that change a page turn 200 into 203. Orders count with any of these statuses. An empty list counts only
    with a 2xx status, or if the shop also reports a count of 0.
    """
    if status in {MADE_AN_ORDER, 429}:
        return False
    return 200 <= status < 300 or (any(map(is_order, rows or ())) if rows else _counts_none(headers))


def _counts_none(headers: Mapping[str, str]) -> bool:
    return headers.get("x-wp-total", "").strip() == "0"


def _tells_of_none(status: int, headers: Mapping[str, str], body: bytes, payload: object) -> bool:
    """Return whether the shop reports a count of 0, and the body cannot contain orders.

    Such a body is {}, null, or [] followed by an error.
    """
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
    """Return the error for an unexpected answer. Its text says what the shop sent instead.

    The first parameter names the expected answer, for people. `payload` is the JSON in the body; None if
    there is none. For the other parameters, see `read_json`.
    """
    if not 200 <= status < 300 or PAGE.search(body) or wall_of(headers, body) is not None:
        return http_error(status, headers, body, advice)
    said = quote(body[: 20 * MAX_QUOTE].decode("utf-8", "replace"))
    begun = body.lstrip()[:1]
    if payload is not None or body.strip() == b"null":
        sent = describe(payload)
    elif not said:
        sent = Text("an empty page")
    elif begun in {b"{", b"["}:
        sent = Text("JSON that is cut off or broken")
    else:
        sent = Text("text ({said})", said=said)
    return TemporaryError(
        ErrorKind.PROTOCOL,
        Text(
            "HTTP {status} with {sent} instead of {expected}; look for a plugin or cache that "
            "changes the answers of the shop's API",
            status=status,
            sent=sent,
            expected=wanted,
        ),
    )


def rest_error(
    payload: Mapping[str, Any],
    status: int,
    headers: Mapping[str, str] | None = None,
    advice: Advice = COMMON_ADVICE,
) -> ShopPollerError:
    """Return the error for WordPress's `{code, message, data: {status}}`, which may come as HTTP 200."""
    data = payload.get("data")
    own = data.get("status") if isinstance(data, dict) else None
    return by_status(
        own if isinstance(own, int) and 100 <= own <= 599 else status,
        coded(payload),
        headers or {},
        advice,
    )


def http_error(
    status: int, headers: Mapping[str, str], body: bytes, advice: Advice = COMMON_ADVICE
) -> ShopPollerError:
    """Return the error for an answer that is not JSON, or not the expected JSON."""
    said = quote(body[: 20 * MAX_QUOTE].decode("utf-8", "replace")) or Text("an empty page")
    if status != 429 and (wall := wall_of(headers, body)) is not None:
        message = Text("{wall}, HTTP {status}; {advice}", wall=wall.name, status=status, advice=wall.advice)
        return TemporaryError(ErrorKind.PROTOCOL, message)
    if status in ORIGIN:
        return TemporaryError(
            STATUSES[status],
            Text("HTTP {status}: {origin}", status=status, origin=ORIGIN[status]),
            retry_after_s=retry_after_s(headers),
        )
    if status < 300 or status == 403:  # a captcha or a firewall's page; WordPress itself answers in JSON
        return TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "HTTP {status} with a page instead of an answer ({said}); a firewall, captcha or "
                "cache may be in front of the shop: let it pass the shop's API",
                status=status,
                said=said,
            ),
        )
    if status == 404 and (api := api_root(headers)):
        # The general advice of a dialect would contradict this.
        said = Text(
            "{said}; the shop says that its API is at {api}: set WOOCOMMERCE_MCP_URL={api}wc/v3/orders",
            said=said,
            api=api,
        )
        advice = {}
    return by_status(status, said, headers, advice)


class RedirectedError(PermanentError):
    """The shop redirects to another address."""


def redirect_error(status: int, requested: str, headers: Mapping[str, str]) -> ShopPollerError:
    """Return the error for a redirect. None is followed, because keys are for one address.

    Args:
        status: the HTTP status.
        requested: the address of the request.
        headers: the headers, with lower-case names.
    """
    redirect = read_redirect(requested, headers.get("location", ""))
    if redirect.to:
        message = Text("the shop redirects to {to} (HTTP {status})", to=redirect.to, status=status)
    else:
        message = Text("the shop redirects elsewhere (HTTP {status})", status=status)
    if redirect.reason is Reason.WAITING:
        return TemporaryError(
            ErrorKind.UNAVAILABLE,
            Text(
                "{message}, which looks like a page for maintenance or for a shop that is not open "
                "yet; exclude /wp-json/ from it",
                message=message,
            ),
            retry_after_s=retry_after_s(headers),
        )
    if redirect.is_usable:
        advice = Text("set WOOCOMMERCE_MCP_URL={to}", to=redirect.to)
        if redirect.reason is Reason.LANGUAGE:
            advice = Text("exclude /wp-json/ in the plugin for languages, or {advice}", advice=advice)
        return RedirectedError(ErrorKind.NOT_FOUND, joined("; ", [message, advice]))
    return RedirectedError(ErrorKind.NOT_FOUND, joined("", [message, REDIRECTED[redirect.reason]]))


REDIRECTED = {
    Reason.NOWHERE: Text(
        ", and the redirect has no usable address; check WOOCOMMERCE_MCP_URL, or look for a "
        "plugin that redirects"
    ),
    Reason.SAME: Text(
        ", the address that was asked: a loop, or a firewall that requires cookies or a "
        "browser; let it exclude /wp-json/, or check WOOCOMMERCE_MCP_URL"
    ),
    Reason.HTTP: Text(
        ", which is not encrypted, and keys are not sent like that; set the shop's own "
        "address under Settings → General to https, or check WOOCOMMERCE_MCP_URL"
    ),
    Reason.LOGIN: Text(
        ", its page to sign in; a plugin hides the shop from visitors: let it exclude "
        "/wp-json/, or check WOOCOMMERCE_MCP_URL"
    ),
} | dict.fromkeys(
    (Reason.HTTPS, Reason.HOST, Reason.SLASH, Reason.LANGUAGE, Reason.PATH, Reason.PAGE),
    Text(", which is not its API; check WOOCOMMERCE_MCP_URL, or look for a plugin that redirects /wp-json/"),
)
"""What to do if the new address cannot be set in the settings."""

API_LINK = re.compile(r'<(https?://[^<>\s]{1,200})>;\s*rel="https://api\.w\.org/"')


def api_root(headers: Mapping[str, str]) -> str:
    """Return the address of the API from the `Link` header of WordPress's pages; "" if there is none."""
    found = API_LINK.search(headers.get("link", ""))
    return read_redirect("", found[1]).to if found else ""


def by_status(status: int, said: str, headers: Mapping[str, str], advice: Advice) -> ShopPollerError:
    """Return the error for an HTTP status."""
    others = {4: ErrorKind.REJECTED, 5: ErrorKind.SERVER}
    kind = STATUSES.get(status, others.get(status // 100, ErrorKind.PROTOCOL))
    if status in UNAVAILABLE_ADVICE:
        is_update = status == 503 and "retry-after" in headers
        advice = {ErrorKind.UNAVAILABLE: UPDATED if is_update else UNAVAILABLE_ADVICE[status]}
    return of_kind(
        kind, Text("the shop answered {status}: {said}", status=status, said=said), advice, headers
    )


def of_kind(
    kind: ErrorKind, message: str, advice: Advice, headers: Mapping[str, str] | None = None
) -> ShopPollerError:
    """Return the error of a kind, with advice on what to do."""
    if kind in advice:
        message = joined("; ", [_without_stop(message), advice[kind]])
    if kind in PERMANENT:
        return PermanentError(kind, message)
    return TemporaryError(kind, message, retry_after_s=retry_after_s(headers or {}))


def _without_stop(message: str) -> str:
    """Return a message without the full stop at the end of the quote that ends it."""
    if not isinstance(message, Text):
        return message.rstrip(". ")
    *_, last = message.values  # the value that the template ends with
    quoted = message.values[last]
    if not isinstance(quoted, str) or not message.endswith((".", " ")):
        return message
    return Text(message.template, **{**message.values, last: _without_stop(quoted)})


def quote(text: str) -> str:
    """Return the beginning of the shop's text, up to where data begins: one short line without markup."""
    said = before_data(text[: 8 * MAX_QUOTE])[: 4 * MAX_QUOTE]
    plain = before_data(MARKUP.sub(" ", said))
    words = PERSONAL.sub("***", one_line(without_values(plain), MAX_QUOTE))
    if not words and len(said) < len(text.rstrip()):
        return "data"  # possibly an order, with all of a buyer's data
    return words


CODE = re.compile(r"[a-z0-9.:-]{1,80}|(?=[^_]*_)[A-Za-z0-9_.:-]{1,80}")


def code_word(value: object) -> str:
    """Return a code, such as rest_no_route or -32001; "?" if the value is not a code."""
    if isinstance(value, int):
        return word(value)
    return value if isinstance(value, str) and CODE.fullmatch(value) else "?"


def coded(error: Mapping[str, Any]) -> str:
    """Return the code and the message of an error of WordPress or JSON-RPC."""
    return Text("{code}: {said}", code=code_word(error.get("code")), said=word(error.get("message")))


def word(value: object) -> str:
    """Return a word or a number as text; of any other value, nothing is shown."""
    return quote(str(value)) if isinstance(value, str | int) else "?"


def bound_parts(text: bytes, so_far: int = 0) -> int:
    """Return the maximum possible number of JSON values, or lines, in a text, without parsing it.

    Args:
        text: an answer, or a part of one.
        so_far: the number in the parts before it.

    Raises:
        TemporaryError: TOO_LARGE; there are more than MAX_PARTS.
    """
    count = so_far + sum(map(text.count, (b",", b"]", b"}", b"\n", b"\r")))
    if count > MAX_PARTS:
        raise TemporaryError(
            ErrorKind.TOO_LARGE, Text("the shop's answer has more than {most:,} values", most=MAX_PARTS)
        )
    return count


def parse(body: bytes) -> tuple[Any, str]:
    """Find the JSON in a body (None if there is none), and one line of the text around it.

    Args:
        body: the unpacked body; may be anything.

    Raises:
        TemporaryError: TOO_LARGE, see bound_parts.
    """
    if len(body) > MAX_PARTS:  # a shorter body cannot contain so many
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
    """Return a count that a shop sends as a number or as text; None if it is not a count."""
    if isinstance(value, str) and value.isascii() and value.strip().isdigit():
        value = int(value.strip()[:20])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None
