"""What an MCP endpoint's bytes mean: a JSON-RPC result, a tool's, or one of our errors. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.sources.answers import (
    COMMON_ADVICE,
    STATUSES,
    Advice,
    by_status,
    http_error,
    of_kind,
    parse,
    quote,
    rest_error,
    word,
)

START_OF_ANSWER = b'{"jsonrpc"'

INVALID_PARAMS = -32602
LOST_SESSION = frozenset({-32600, INVALID_PARAMS, -32005})
"""Codes that say, of a call that is well-formed, that its session is missing, unknown or expired."""

CODES = {
    -32601: ErrorKind.NOT_FOUND,
    -32003: ErrorKind.NOT_FOUND,
    -32008: ErrorKind.AUTHENTICATION,
    -32010: ErrorKind.AUTHENTICATION,
    -32603: ErrorKind.SERVER,
}

INVALID_OUTPUT = re.compile(r"\boutput\[\w{1,50}\]|has invalid output")
"""The path is not translated, the words may be."""


class SessionLostError(Exception):
    """The shop does not know our session (any more); the text is what it said."""


class InvalidOutputError(PermanentError):
    """A tool's answer breaks the tool's own rules, so that the shop keeps it to itself.

    Attributes:
        said: the shop's own words; long, and not for people.
        shop_time: the shop's clock when it answered, if it told.
    """

    def __init__(self, said: str, shop_time: datetime | None) -> None:
        super().__init__(ErrorKind.REJECTED, f"the shop says: {quote(said)}")
        self.said = said
        self.shop_time = shop_time


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON-RPC result.

    Attributes:
        noise: one line of what stood before it; "" if nothing did.
    """

    result: Any
    noise: str = ""


def read_answer(
    request_id: int,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    advice: Advice = COMMON_ADVICE,
) -> Answer:
    """Read the answer to a JSON-RPC call.

    Args:
        request_id: the call's.
        status: HTTP's.
        headers: with lower-case names.
        body: unpacked; of an event stream, the data of the event that answers.
        advice: the dialect's.

    Raises:
        SessionLostError: initialise again.
        TemporaryError, PermanentError: whatever else it says.
    """
    payload, noise = parse(body, (START_OF_ANSWER,))
    if not isinstance(payload, dict) or status == 429:
        raise http_error(status, headers, body, advice)
    error = payload.get("error")
    if isinstance(error, dict):
        raise _rpc_error(error, status, headers, advice)
    if "code" in payload and "jsonrpc" not in payload:
        raise rest_error(payload, status, headers, advice)
    if status != 200 or "result" not in payload:
        raise http_error(status, headers, body, advice)
    if payload.get("id") != request_id:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            "the shop answered another question than ours; a cache may stand before its MCP address",
        )
    return Answer(payload["result"], noise)


def read_tool_result(
    result: Any, advice: Advice = COMMON_ADVICE, shop_time: datetime | None = None
) -> dict[str, Any]:
    """The object that a tool returned.

    Raises:
        InvalidOutputError: it made one that breaks its own rules.
        TemporaryError, PermanentError: it reports another failure, or is no object.
    """
    if not isinstance(result, dict):
        raise TemporaryError(ErrorKind.PROTOCOL, "the shop's tool returned no object")
    text = _text(result)
    if result.get("isError"):
        raise tool_error(text, advice, shop_time)
    content = result.get("structuredContent")
    if content is None:
        content, _ = parse(text.encode())  # servers without structured content say it as text only
    if not isinstance(content, dict):
        said = quote(text) or "nothing at all"
        raise TemporaryError(ErrorKind.PROTOCOL, f"the shop's tool returned no object but {said}")
    return content


def tool_error(text: str, advice: Advice, shop_time: datetime | None) -> ShopPollerError:
    """The error for a tool's failure, which comes as HTTP 200 with words only."""
    said = f"the shop says: {quote(text) or 'nothing'}"
    if text.startswith("Permission denied") or "does not have necessary permission" in text:
        return of_kind(ErrorKind.AUTHENTICATION, said, advice)
    if text.startswith("Ability '") and text.endswith("not found"):
        return of_kind(ErrorKind.NOT_FOUND, said, advice)
    if text.startswith('Ability "') and "threw an exception" in text:
        return of_kind(ErrorKind.SERVER, said, advice)
    if INVALID_OUTPUT.search(text):
        return InvalidOutputError(text, shop_time)
    if text.startswith('Ability "'):
        return of_kind(ErrorKind.REJECTED, said, advice)
    return of_kind(ErrorKind.SERVER, said, advice)


def _text(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    first = content[0] if isinstance(content, list) and content else None
    text = first.get("text") if isinstance(first, dict) else None
    return text if isinstance(text, str) else ""


def _rpc_error(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str], advice: Advice
) -> Exception:
    code = error.get("code")
    said = f"{word(code)}: {word(error.get('message'))}"
    if isinstance(code, int) and code in LOST_SESSION:
        return SessionLostError(f"the shop says {said}")
    if isinstance(code, int) and code in CODES:
        return of_kind(CODES[code], f"the shop says {said}", advice)
    if status in STATUSES:  # a code of somebody else's: the status says more
        return by_status(status, said, headers, advice)
    return of_kind(ErrorKind.PROTOCOL, f"the shop says {said}", advice)
