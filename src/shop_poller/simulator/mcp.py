"""An MCP server of the site: HTTP around JSON-RPC."""

from collections.abc import Callable
from dataclasses import replace
from typing import Generic

from shop_poller.simulator.adapters import INVALID_REQUEST, Adapter
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.rpc import Envelope, H, RpcServer, Toolbox, rpc_error
from shop_poller.simulator.site import Site
from shop_poller.simulator.stateless import StatelessServer

_ALLOW = "POST, GET, DELETE"


class McpServer(Generic[H]):
    """Answers the requests to one MCP endpoint.

    Args:
        site: The site that it belongs to.
        tools: The tools that it offers.
        adapter: Returns its behaviour; called for each response, since a plugin may be updated.
        authenticate: Identifies the caller, or refuses.
    """

    def __init__(
        self,
        site: Site,
        tools: Toolbox[H],
        adapter: Callable[[], Adapter],
        authenticate: Callable[[Site, Request], H | Answer],
    ) -> None:
        self._site = site
        self._tools = tools
        self._adapter = adapter
        self._authenticate = authenticate

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        if request.method not in ("POST", "GET", "DELETE"):
            return self._site.no_route()
        holder = self._authenticate(self._site, request)
        # WordPress reads the body before it checks the credentials.
        if request.breaks_its_word:
            return self._site.broken_json(allow=None if isinstance(holder, Answer) else _ALLOW)
        if isinstance(holder, Answer):
            return holder
        headers = request.headers
        session_id, version = (
            headers.get(name) or None for name in ("mcp-session-id", "mcp-protocol-version")
        )
        if self._is_stateless(version):
            return self._stateless(request, holder)
        return self._in_session(request, Envelope(holder, session_id, version))

    def _in_session(self, request: Request, caller: Envelope[H]) -> Answer:
        match request.method:
            case "POST":
                return self._post(request, caller)
            case "DELETE":
                return self._end_session(caller.holder, caller.session_id)
            case _:
                error = self._adapter().no_stream
                return self._json(405, None if error is None else rpc_error(0, *error))

    def _is_stateless(self, version: str | None) -> bool:
        if self._site.era == "both":
            return version is not None and version not in self._adapter().versions
        return self._site.era == "stateless"

    def _stateless(self, request: Request, holder: H) -> Answer:
        if request.method != "POST":
            return self._site.json(405, None, allow="POST")
        body = request.rpc if request.is_json else None
        reply = StatelessServer(self._site, self._tools, self._adapter()).reply(body, request.headers, holder)
        return self._site.json(reply.status, reply.body, allow="POST")

    def _post(self, request: Request, caller: Envelope[H]) -> Answer:
        body = request.rpc if request.is_json else None
        reply = RpcServer(self._site, self._tools, self._adapter()).reply(body, caller)
        answer = self._json(reply.status, reply.body)
        if reply.session_id is None:
            return answer
        return replace(answer, headers={**answer.headers, "Mcp-Session-Id": reply.session_id})

    def _end_session(self, holder: H, session_id: str | None) -> Answer:
        if session_id is None:
            text = "Invalid Request: Missing Mcp-Session-Id header"
            return self._json(400, rpc_error(0, INVALID_REQUEST, text))
        self._site.sessions.close(holder.user, session_id)
        return self._json(200, None)

    def _json(self, status: int, body: object) -> Answer:
        return self._site.json(status, body, allow=_ALLOW)
