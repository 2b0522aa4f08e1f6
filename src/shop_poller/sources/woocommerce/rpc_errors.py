"""What an MCP endpoint's refusals mean: a lost session, an unsupported version, or one of our errors.

Pure. docs/woocommerce.md lists what servers answer.
"""

import re
from collections.abc import Mapping
from typing import Any

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.translatable import Text, joined
from shop_poller.sources.woocommerce.answers import (
    STATUSES,
    Advice,
    by_status,
    coded,
    of_kind,
    rest_error,
)

INVALID_PARAMS = -32602
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION = -32020, -32021, -32022
NEWER_ERA = frozenset({HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION})
"""Codes that exist only in the revision without sessions."""
LOST_SESSION = frozenset({-32600, INVALID_PARAMS, -32005})
"""Codes that mean, for a valid call, that its session is missing, unknown or expired."""

LOST_SESSION_OF_OTHERS = frozenset({-32000, -32001, -32002})
"""Codes that some other MCP servers use for a lost session. Other servers use them for other errors, so they
count only if the call contained a session."""

ASKS_FOR_TIME = frozenset({429, 503})
"""Statuses that concern the whole shop, whatever the body contains."""

NEVER_LOST = ASKS_FOR_TIME | {408}
"""Statuses that never mean a lost session, whatever the body says."""

NOT_LOST = NEVER_LOST | {401, 413, 414, 431}
"""Statuses that do not mean a lost session unless the body names it.

Any other 4xx may mean it if the call contained a session. The MCP specification requires 404. Real servers
also answer 400, 403 (the session of another user) and 410. A server that was replaced by one of another era
may answer anything."""

CODES = {
    -32601: ErrorKind.NOT_FOUND,
    -32003: ErrorKind.NOT_FOUND,
    -32008: ErrorKind.AUTHENTICATION,
    -32010: ErrorKind.AUTHENTICATION,
    -32603: ErrorKind.SERVER,
}

NO_ROUTE = "rest_no_route"
"""WordPress has nothing at this address."""

MAX_VERSIONS = 20
VERSION = re.compile(r"\d{4}-\d\d-\d\d")
"""A protocol version of MCP."""

MAX_NAMED = 2000
"""Bytes, or characters, that are searched for a mention of the session."""

NO_TOOL = re.compile(r"\b(?:unknown tool|no such tool|tool\b.{0,100}\bnot found)\b", re.IGNORECASE)

UNKNOWN_ARGUMENT = re.compile(
    r"_fields|not a valid property"
    r"|\b(?:additional|unknown|unexpected|unrecogni[sz]ed|extra)[ _]"
    r"(?:propert|argument|param|field|key|input)",  # codespell:ignore propert
    re.IGNORECASE,
)
"""A server's words for an argument that its tool does not know."""

SESSION_LOST = re.compile(
    r"\b(?:invalid|expired|unknown|missing|no(?: valid)?)(?: or \w{1,20})? (?:mcp[- ])?session\b"
    r"|\bsession\b.{0,40}\b(?:expired|invalid|not found|unknown|missing|terminated|closed|does not exist)\b",
    re.IGNORECASE,
)
"""A tool's words for a lost session."""


class SessionLostError(Exception):
    """The shop does not know our session, or may not know it. The text is the shop's.

    Attributes:
        error: the meaning of the answer if a new session does not help.
        is_certain: whether the answer names the session or has a code for it; else it may be alive.
        is_parameter_error: whether the code may be about the call's parameters instead.
    """

    def __init__(
        self,
        said: str,
        error: ShopPollerError | None = None,
        *,
        is_certain: bool = True,
        is_parameter_error: bool = False,
    ) -> None:
        super().__init__(said)
        self.error = error or _no_session(said)
        self.is_certain = is_certain
        self.is_parameter_error = is_parameter_error


def _no_session(said: str) -> TemporaryError:
    return TemporaryError(ErrorKind.PROTOCOL, Text("no MCP session: {said}", said=said))


class NoRouteError(PermanentError):
    """WordPress itself says that there is no endpoint at this address."""


class RpcRefusedError(TemporaryError):
    """A JSON-RPC error with a code that we do not know."""


class ParametersRefusedError(TemporaryError):
    """The endpoint says that a call's parameters are invalid. It may not know one of them."""


class OtherEraError(PermanentError):
    """An error that a call of the other era may not cause."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.REJECTED, message)


class UnsupportedVersionError(OtherEraError):
    """The endpoint does not speak the MCP version that was proposed.

    Attributes:
        versions: the supported versions that the endpoint reports.
    """

    def __init__(self, message: str, versions: tuple[str, ...]) -> None:
        super().__init__(message)
        self.versions = versions


def wordpress_error(
    payload: Mapping[str, Any], status: int, headers: Mapping[str, str], advice: Advice
) -> tuple[int, ShopPollerError]:
    """Return WordPress's own error, and the HTTP status that it means."""
    error = rest_error(payload, status, headers, advice)
    if payload.get("code") == NO_ROUTE and error.kind is ErrorKind.NOT_FOUND:
        error = NoRouteError(error.kind, error.text)
    data = payload.get("data")
    own = data.get("status") if isinstance(data, dict) else None
    return (own if status == 200 and isinstance(own, int) else status), error


def maybe_lost(status: int, error: ShopPollerError, body: bytes, *, in_session: bool) -> Exception:
    """Return the error of an answer without JSON-RPC, or the lost session that it may mean."""
    names_it = b"session" in body[:MAX_NAMED].lower()
    if in_session and 400 <= status < 500 and status not in (NEVER_LOST if names_it else NOT_LOST):
        return SessionLostError(error.text, error, is_certain=names_it)
    return error


def rpc_error(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str], advice: Advice, *, in_session: bool
) -> Exception:
    """Return the error of a JSON-RPC answer, or the lost session that it may mean.

    Args:
        error: code, message, and possibly data.
        status: the HTTP status.
        headers: the headers, with lower-case names.
        advice: the dialect's advice.
        in_session: whether the call contained the id of a session.
    """
    code, message = error.get("code"), error.get("message")
    said = Text("the shop says {words}", words=coded(error))
    meaning = _meaning(error, status, headers, advice)
    names_it = isinstance(message, str) and bool(SESSION_LOST.search(message[:MAX_NAMED]))
    by_code = isinstance(code, int) and code in LOST_SESSION
    if isinstance(meaning, UnsupportedVersionError) and not in_session:
        return meaning
    if status in ASKS_FOR_TIME and not by_code:
        return meaning
    certain = by_code or (
        in_session and (names_it or (isinstance(code, int) and code in LOST_SESSION_OF_OTHERS))
    )
    refuses = isinstance(meaning, RpcRefusedError) or meaning.kind in {
        ErrorKind.NOT_FOUND,
        ErrorKind.REJECTED,
    }
    maybe = refuses or (400 <= status < 500 and status not in NOT_LOST)
    if certain or (in_session and maybe):
        return SessionLostError(
            said,
            _no_session(said) if certain else meaning,
            is_certain=certain,
            is_parameter_error=code == INVALID_PARAMS and not names_it,
        )
    return meaning


def _meaning(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str], advice: Advice
) -> ShopPollerError:
    """Return what a JSON-RPC error means if it is not about the session."""
    code, message = error.get("code"), error.get("message")
    said = Text("the shop says {words}", words=coded(error))
    versions = _versions(error)
    about_versions = isinstance(message, str) and "protocol version" in message[:MAX_NAMED].lower()
    if versions or about_versions or code == UNSUPPORTED_VERSION:
        spoken = Text(" (it speaks {versions})", versions=", ".join(versions)) if versions else ""
        return UnsupportedVersionError(joined("", [said, spoken]), versions)
    if isinstance(code, int) and code in NEWER_ERA:
        return OtherEraError(said)
    if isinstance(message, str) and NO_TOOL.search(message[:MAX_NAMED]):
        return of_kind(ErrorKind.NOT_FOUND, said, advice)
    if isinstance(code, int) and code in CODES:
        return of_kind(CODES[code], said, advice)
    if status in STATUSES:  # an unknown code: the status says more
        return by_status(status, coded(error), headers, advice)
    return RpcRefusedError(ErrorKind.PROTOCOL, of_kind(ErrorKind.PROTOCOL, said, advice).text)


def _versions(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the MCP versions that the endpoint supports according to the data or text of an error."""
    data = error.get("data")
    named = data.get("supported") if isinstance(data, dict) else None
    if isinstance(named, list):
        return tuple(v for v in named[:MAX_VERSIONS] if isinstance(v, str) and VERSION.fullmatch(v))
    message = error.get("message")
    if not isinstance(message, str) or "version" not in message[:MAX_NAMED].lower():
        return ()
    _, supported, listed = message[:MAX_NAMED].lower().partition("supported versions")
    return tuple(VERSION.findall(listed)[:MAX_VERSIONS]) if supported else ()
