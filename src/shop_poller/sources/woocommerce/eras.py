"""The two eras of MCP: revisions that begin with `initialize`, and those without a session.

docs/decisions/0012 describes how an era is chosen. In both eras, a call raises EraRefusedError if the
endpoint does not support the era. Every other error is the shop's.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import httpx

from shop_poller import __version__
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import RedirectedError, http_error, of_kind
from shop_poller.sources.woocommerce.jsonrpc import RpcResult, is_lost_in_words
from shop_poller.sources.woocommerce.mcp_http import SESSION, McpHttp
from shop_poller.sources.woocommerce.rpc_errors import (
    ASKS_FOR_TIME,
    UNKNOWN_ARGUMENT,
    NoRouteError,
    OtherEraError,
    RpcRefusedError,
    SessionLostError,
    UnsupportedVersionError,
)

HANDSHAKE_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Revisions that begin with `initialize`, newest first; the first one is proposed."""
STATELESS_VERSION = "2026-07-28"

VERSION_HEADER = "MCP-Protocol-Version"
META = "io.modelcontextprotocol/"
VERSION = re.compile(r"[0-9A-Za-z.-]{1,40}")
SESSION_ID = re.compile(r"[\x21-\x7e]{1,1000}")
MAX_SUSPECTS = 4
CALL = "tools/call"
MAX_FAILURES = 2
DOUBTFUL = frozenset(ErrorKind) - {ErrorKind.RATE_LIMIT}
"""Errors that a lost session may cause although the error does not mention the session."""
CLIENT = {"name": "shop-poller", "version": __version__}

Reply = tuple[RpcResult, httpx.Response]


class EraRefusedError(Exception):
    """The endpoint does not accept calls of this era.

    Attributes:
        error: the error of the endpoint.
        other_era_may_work: whether to try the other era; False if the endpoint refuses every call.
        is_parameter_error: whether the code or text may be about the call's parameters instead.
    """

    def __init__(
        self, error: ShopPollerError, *, other_era_may_work: bool = True, is_parameter_error: bool = False
    ) -> None:
        super().__init__(error.text)
        self.error = error
        self.other_era_may_work = other_era_may_work
        self.is_parameter_error = is_parameter_error


def refusal(error: Exception, status: int | None) -> EraRefusedError | None:
    """Return the refusal of an era that an error means; None if it is temporary, or about wrong keys.

    Args:
        error: the error of a call that begins the era.
        status: the HTTP status of the response.
    """
    if isinstance(error, SessionLostError):
        return EraRefusedError(error.error, is_parameter_error=error.is_parameter_error)
    if not isinstance(error, ShopPollerError):
        return None
    if isinstance(error, NoRouteError | RedirectedError):
        return EraRefusedError(error, other_era_may_work=False)
    if isinstance(error, RpcRefusedError) or error.kind in {ErrorKind.NOT_FOUND, ErrorKind.REJECTED}:
        return EraRefusedError(error, is_parameter_error=bool(UNKNOWN_ARGUMENT.search(str(error))))
    if status == 403:  # a firewall's page, or keys without permission for this endpoint
        return EraRefusedError(error, other_era_may_work=False)
    return None


class Stateless:
    """Calls without a session: each contains its version and the client's name (revision 2026-07-28).

    Args:
        http: sends messages.
    """

    def __init__(self, http: McpHttp) -> None:
        self._http = http

    async def call(self, method: str, params: Mapping[str, Any]) -> Reply:
        """Call a method.

        Raises:
            EraRefusedError: the endpoint requires `initialize`, or has no such method or tool.
            TemporaryError, PermanentError: any other error.
        """
        meta = {
            f"{META}protocolVersion": STATELESS_VERSION,
            f"{META}clientInfo": CLIENT,
            f"{META}clientCapabilities": {},
        }
        headers = {VERSION_HEADER: STATELESS_VERSION, "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        try:
            return await self._http.call(method, {**params, "_meta": meta}, headers)
        except (SessionLostError, ShopPollerError) as error:
            refused = refusal(error, self._http.status)
            if refused is None:
                raise
            raise refused from None

    async def end(self) -> None:
        """Do nothing: there is no session."""


class Handshake:
    """Calls in a session that begins with `initialize` (revisions 2024-11-05 to 2025-11-25).

    Args:
        http: sends messages.
    """

    def __init__(self, http: McpHttp) -> None:
        self._http = http
        self._session: dict[str, str] | None = None  # the headers of the session; None if there is none
        self._failures = 0  # consecutive failed calls in the session
        self._suspects: deque[dict[str, str]] = deque(maxlen=MAX_SUSPECTS)  # perhaps lost, perhaps alive
        self._proposal = HANDSHAKE_VERSIONS[0]

    async def call(self, method: str, params: Mapping[str, Any]) -> Reply:
        """Call a method. If the session is lost, begin a new one and repeat the call once.

        Raises:
            EraRefusedError: `initialize` is refused, or the call fails with an error of the newer era.
            SessionLostError: the new session is lost immediately too.
            TemporaryError, PermanentError: any other error.
        """
        try:
            return await self._in_session(method, params)
        except SessionLostError as error:
            loss = error
        old, self._session = self._session or {}, None
        self._suspects.append(old)
        reply = await self._in_session(method, params)
        if loss.is_certain:
            self._suspects.remove(old)
        return reply

    async def end(self) -> None:
        """End the sessions, so that they do not count toward the user's limit of 32.

        Raises:
            TemporaryError: RATE_LIMIT, see McpHttp.end_session. The other sessions are left to expire.
        """
        sessions = [*self._suspects, self._session or {}]
        self._session = None
        self._suspects.clear()
        for session in sessions:
            if SESSION in session:
                await self._http.end_session(session)

    async def _in_session(self, method: str, params: Mapping[str, Any]) -> Reply:
        """Call a method in the current session, or in a new one. Raises what `call` raises."""
        if self._session is None:
            self._session = await self._begin()  # kept from here on, so that it is ended in any case
            response, body = await self._http.post(
                {"jsonrpc": "2.0", "method": "notifications/initialized"}, self._session
            )
            if response.status_code in ASKS_FOR_TIME:  # any other response to a notification is ignored
                raise http_error(response.status_code, response.headers, body, self._http.advice)
        try:
            answer, response = await self._http.call(method, params, self._session)
        except OtherEraError as error:  # a server that answers `initialize`, but has no sessions
            raise EraRefusedError(error) from None
        except ShopPollerError as error:
            if method == CALL:  # tools are listed only after another call failed
                await self._doubt(error)
            raise
        self._failures = 0
        if SESSION in self._session and is_lost_in_words(answer.result):
            raise SessionLostError(Text("the shop's tool says that the session is lost"))
        return answer, response

    async def _doubt(self, error: ShopPollerError) -> None:
        """End a session after MAX_FAILURES consecutive failures: it may be lost, whatever the error says.

        Raises:
            TemporaryError: RATE_LIMIT, see McpHttp.end_session.
        """
        self._failures += error.kind in DOUBTFUL
        if self._failures >= MAX_FAILURES and self._session is not None:
            self._failures = 0
            session, self._session = self._session, None
            if SESSION in session:
                await self._http.end_session(session)

    async def _begin(self) -> dict[str, str]:
        """Begin a session and return its headers. If the endpoint refuses our version, try an older one."""
        try:
            answer, response = await self._initialize()
        except EraRefusedError as refused:
            older = _older(refused.error, self._proposal)
            if older is None:
                raise
            self._proposal = older
            answer, response = await self._initialize()
        version = answer.result.get("protocolVersion") if isinstance(answer.result, dict) else None
        spoken = isinstance(version, str) and VERSION.fullmatch(version)
        session = {VERSION_HEADER: str(version) if spoken else self._proposal}
        if session_id := _session_id(response.headers):  # a server without sessions sends none
            if not SESSION_ID.fullmatch(session_id):
                raise TemporaryError(ErrorKind.PROTOCOL, Text("the shop sent an invalid MCP session id"))
            session[SESSION] = session_id
        if version == STATELESS_VERSION:
            if SESSION in session:
                await self._http.end_session(session)
            raise EraRefusedError(
                of_kind(
                    ErrorKind.REJECTED,
                    Text("the shop requires MCP {version}", version=STATELESS_VERSION),
                    self._http.advice,
                )
            )
        return session

    async def _initialize(self) -> Reply:
        params = {"protocolVersion": self._proposal, "capabilities": {}, "clientInfo": CLIENT}
        # Without the header of the old session: with it, the shop does not create a new one.
        try:
            return await self._http.call("initialize", params, {})
        except (SessionLostError, ShopPollerError) as error:
            refused = refusal(error, self._http.status)
            if refused is None:
                raise
            raise refused from None


def _session_id(headers: Mapping[str, str]) -> str:
    """Return the id of a session. If the header repeats the same id, it counts once."""
    said = headers.get(SESSION, "").strip()
    named = {part.strip() for part in said.split(",")}
    return named.pop() if len(named) == 1 else said


def _older(error: ShopPollerError, proposed: str) -> str | None:
    """Return another version to propose after a refusal; None if the refusal is not about the version."""
    if not isinstance(error, UnsupportedVersionError):
        return None
    if not error.versions:
        return next((v for v in HANDSHAKE_VERSIONS if v < proposed), None)
    return next((v for v in HANDSHAKE_VERSIONS if v in error.versions and v != proposed), None)
