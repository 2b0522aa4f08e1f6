"""What a shop's bytes mean: a JSON-RPC result, or one of our errors. Pure; docs/woocommerce.md has the traps.

WordPress speaks in three tongues here: JSON-RPC from the MCP endpoint, `{code, message, data: {status}}` from
everything before it, and HTML from whatever stands in front. Codes are stable, messages are translated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.httpclient import one_line, retry_after_s

START_OF_ANSWER = b'{"jsonrpc"'
MAX_QUOTE = 200

JSON_DATA = re.compile(r'\s*[{\[]\s*["{\[]')
PERSONAL = re.compile(r"[^\s@'\"<>]{1,100}@[^\s@'\"<>]{1,100}|\+?[0-9](?:[ ()-]{0,2}[0-9]){6,}")
"""E-mail addresses and telephone numbers: PHP and SQL quote what they choke on."""

LOST_SESSION = frozenset({-32600, -32602, -32005})
"""Codes that say, of a call that is well-formed, that its session is missing, unknown or expired."""

CODES = {
    -32601: ErrorKind.NOT_FOUND,
    -32003: ErrorKind.NOT_FOUND,
    -32008: ErrorKind.AUTHENTICATION,
    -32010: ErrorKind.AUTHENTICATION,
    -32603: ErrorKind.SERVER,
}

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

ADVICE = {
    ErrorKind.AUTHENTICATION: "check the consumer key and secret, and that their user may view orders",
    ErrorKind.NOT_FOUND: "check WOOCOMMERCE_MCP_URL, and that WooCommerce (10.3 or later) has MCP turned on",
    ErrorKind.UNAVAILABLE: "the shop is probably being updated",
    ErrorKind.SERVER: "look into the shop's PHP error log",
}


class SessionLostError(Exception):
    """The shop does not know our session (any more); the text is what it said."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON-RPC result.

    Attributes:
        noise: one line of what stood before it; "" if nothing did.
    """

    result: Any
    noise: str = ""


def read_answer(request_id: int, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read the answer to a JSON-RPC call.

    Args:
        request_id: the call's.
        status: HTTP's.
        headers: with lower-case names.
        body: unpacked; of an event stream, the data of the event that answers.

    Raises:
        SessionLostError: initialise again.
        TemporaryError, PermanentError: whatever else it says.
    """
    payload, noise = _json(body)
    if not isinstance(payload, dict) or status == 429:
        raise _http_error(status, headers, body)
    error = payload.get("error")
    if isinstance(error, dict):
        raise _rpc_error(error, status, headers)
    if "code" in payload and "jsonrpc" not in payload:
        raise rest_error(payload, status, headers)
    if status != 200 or "result" not in payload:
        raise _http_error(status, headers, body)
    if payload.get("id") != request_id:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            "the shop answered another question than ours; a cache may stand before its MCP address",
        )
    return Answer(payload["result"], noise)


def read_tool_result(result: Any) -> dict[str, Any]:
    """The object that a tool returned.

    Raises:
        TemporaryError, PermanentError: it reports a failure, or is no object.
    """
    if not isinstance(result, dict):
        raise TemporaryError(ErrorKind.PROTOCOL, "the shop's tool returned no object")
    text = _text(result)
    if result.get("isError"):
        raise _tool_error(text)
    content = result.get("structuredContent")
    if content is None:
        content, _ = _json(text.encode())  # servers without structured content say it as text only
    if not isinstance(content, dict):
        said = quote(text) or "nothing at all"
        raise TemporaryError(ErrorKind.PROTOCOL, f"the shop's tool returned no object but {said}")
    return content


def rest_error(
    payload: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> ShopPollerError:
    """The error for WordPress's own `{code, message, data: {status}}`, which may come as HTTP 200."""
    data = payload.get("data")
    own = data.get("status") if isinstance(data, dict) else None
    return _by_status(
        own if isinstance(own, int) and 100 <= own <= 599 else status,
        f"{_word(payload.get('code'))}: {_word(payload.get('message'))}",
        headers or {},
    )


def quote(text: str) -> str:
    """A few words of what the shop said: one line, no markup, bounded."""
    if JSON_DATA.match(text):
        return "data"  # an order, perhaps, with all that is known of a buyer
    plain = re.sub(r"<[^>]{0,200}>", " ", text[: 4 * MAX_QUOTE])
    return PERSONAL.sub("***", one_line(plain, MAX_QUOTE))


def _word(value: object) -> str:
    """What should be a word or a number; of anything else nothing is said."""
    return quote(str(value)) if isinstance(value, str | int) else "?"


def _json(body: bytes) -> tuple[Any, str]:
    """Parse a body, or what follows the noise in it; None if it is no JSON."""
    start = 0
    while start >= 0:
        try:
            payload = from_json(body[start:], allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            start = body.find(START_OF_ANSWER, 1) if start == 0 else -1
        else:
            return payload, quote(body[:start].decode("utf-8", "replace"))
    return None, ""


def _text(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    first = content[0] if isinstance(content, list) and content else None
    text = first.get("text") if isinstance(first, dict) else None
    return text if isinstance(text, str) else ""


def _rpc_error(error: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Exception:
    code = error.get("code")
    said = f"{_word(code)}: {_word(error.get('message'))}"
    if isinstance(code, int) and code in LOST_SESSION:
        return SessionLostError(f"the shop says {said}")
    if isinstance(code, int) and code in CODES:
        return _error(CODES[code], f"the shop says {said}")
    if status in STATUSES:  # a code of somebody else's: the status says more
        return _by_status(status, said, headers)
    return _error(ErrorKind.PROTOCOL, f"the shop says {said}")


def _tool_error(text: str) -> ShopPollerError:
    """A tool's failure comes as HTTP 200 with words only."""
    said = f"the shop says: {quote(text) or 'nothing'}"
    if text.startswith("Permission denied") or "does not have necessary permission" in text:
        return _error(ErrorKind.AUTHENTICATION, said)
    if text.startswith('Ability "'):
        return _error(ErrorKind.REJECTED, said)
    return _error(ErrorKind.SERVER, said)


def _http_error(status: int, headers: Mapping[str, str], body: bytes) -> ShopPollerError:
    """An answer that is not JSON, or not the JSON that it should be."""
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
            " stand before the shop: let it pass the MCP address",
        )
    return _by_status(status, said, headers)


def _by_status(status: int, said: str, headers: Mapping[str, str]) -> ShopPollerError:
    others = {4: ErrorKind.REJECTED, 5: ErrorKind.SERVER}
    kind = STATUSES.get(status, others.get(status // 100, ErrorKind.PROTOCOL))
    return _error(kind, f"the shop answered {status}: {said}", headers)


def _error(kind: ErrorKind, message: str, headers: Mapping[str, str] | None = None) -> ShopPollerError:
    if kind in ADVICE:
        message = f"{message}; {ADVICE[kind]}"
    if kind in PERMANENT:
        return PermanentError(kind, message)
    return TemporaryError(kind, message, retry_after_s=retry_after_s(headers or {}))
