"""The two MCP servers of a site: their differences, by version.

WooCommerce contains an old copy of WordPress's MCP adapter, 0.3.0, for its own endpoint; the plugin
MCP Adapter serves the abilities. PHP loads each class once, so either copy may serve both endpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from shop_poller.simulator.orders import JsonObject

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
TOOL_NOT_FOUND = -32003
SESSION_NOT_FOUND = -32005


@dataclass(frozen=True)
class Adapter:
    """How one MCP server of a site behaves.

    Attributes:
        versions: The protocol versions that `initialize` accepts. Any other version gets the first.
        welcome: The rest of the response to `initialize`.
        unknown_session: The code and the text of the error for an unknown session.
        notified: The HTTP status for a notification.
        integer_ids: Whether a call's id that is not an integer breaks the handler.
        checks_version: Whether a header MCP-Protocol-Version of another version is an error.
        no_stream: The code and the text of the error for a GET; None is an empty body.
        says_no_error: Whether a successful result of a tool contains `isError: false`.
        hides_reasons: Whether the tool that executes abilities reports each failure by the same text.
    """

    versions: Sequence[str]
    welcome: JsonObject
    unknown_session: tuple[int, str]
    notified: int
    integer_ids: bool
    checks_version: bool
    no_stream: tuple[int, str] | None
    says_no_error: bool
    hides_reasons: bool


AdapterVersion: TypeAlias = Literal["0.5.0", "0.4.1", "0.3.0"]

_WOOCOMMERCE: JsonObject = {
    "serverInfo": {"name": "WooCommerce MCP Server", "version": "1.0.0"},
    "instructions": "AI-accessible WooCommerce operations via MCP",
}
_DEFAULT_SERVER: JsonObject = {
    "serverInfo": {"name": "MCP Adapter Default Server", "version": "v1.0.0"},
    "instructions": "Default MCP server for WordPress abilities discovery and execution",
}


def _bundled(server: JsonObject) -> Adapter:
    """Return the copy that WooCommerce contains, 0.3.0."""
    capabilities: JsonObject = {
        "tools": {},
        "resources": {},
        "prompts": {},
        "logging": {},
        "completions": {},
    }
    return Adapter(
        versions=("2025-06-18",),
        welcome={
            "serverInfo": server["serverInfo"],
            "capabilities": capabilities,
            "instructions": server["instructions"],
        },
        # HTTP 200: the adapter treats it as an error of the application.
        unknown_session=(INVALID_PARAMS, "Invalid params: Invalid or expired session"),
        notified=200,
        integer_ids=True,
        checks_version=False,
        no_stream=(INTERNAL_ERROR, "Internal error: SSE streaming not yet implemented"),
        says_no_error=False,
        hides_reasons=True,
    )


def _plugin(server: JsonObject) -> Adapter:
    """Return the plugin, 0.5.0. A later version was recorded too, and behaves the same."""
    capabilities: JsonObject = {
        "prompts": {"listChanged": False},
        "resources": {"subscribe": False, "listChanged": False},
        "tools": {"listChanged": False},
    }
    return Adapter(
        versions=("2025-11-25", "2025-06-18", "2024-11-05"),
        welcome={"capabilities": capabilities, **server},
        unknown_session=(SESSION_NOT_FOUND, "Session not found: Invalid or expired session"),
        notified=202,
        integer_ids=False,
        checks_version=True,
        no_stream=None,
        says_no_error=True,
        hides_reasons=False,
    )


def _versions(server: JsonObject) -> Mapping[AdapterVersion, Adapter]:
    bundled, plugin = _bundled(server), _plugin(server)
    return {
        "0.5.0": plugin,
        # Of 0.4.1, only its error for an unknown session is recorded. Its source shows that the check came
        # with 0.5.0. The rest is assumed to be the same.
        "0.4.1": replace(plugin, unknown_session=bundled.unknown_session, checks_version=False),
        "0.3.0": bundled,
    }


WOOCOMMERCE_ADAPTERS = _versions(_WOOCOMMERCE)
"""The behaviour of `woocommerce/mcp`, by the version of the loaded adapter."""
DEFAULT_SERVER_ADAPTERS = _versions(_DEFAULT_SERVER)
"""The behaviour of `mcp/mcp-adapter-default-server`, by the same versions."""
