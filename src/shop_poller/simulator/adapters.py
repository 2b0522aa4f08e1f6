"""The two MCP servers of a site: what differs between them, and from version to version.

WooCommerce brings an old copy of WordPress's MCP adapter for its own endpoint; the plugin MCP
Adapter serves the abilities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    """One MCP server's ways.

    Attributes:
        versions: The protocol versions that `initialize` echoes; whatever else is asked for gets
            the first.
        welcome: The rest of what `initialize` answers.
        unknown_session: The code and the text of the error for one.
        notified: The HTTP status for a notification.
        integer_ids: Whether a call's id that is no integer breaks the handler.
        checks_version: Whether a header MCP-Protocol-Version of another version is an error.
        no_stream: The code and the text of the error for a GET; None is an empty body.
    """

    versions: Sequence[str]
    welcome: JsonObject
    unknown_session: tuple[int, str]
    notified: int
    integer_ids: bool
    checks_version: bool
    no_stream: tuple[int, str] | None


WOOCOMMERCE_ADAPTER = Adapter(
    versions=("2025-06-18",),
    welcome={
        "serverInfo": {"name": "WooCommerce MCP Server", "version": "1.0.0"},
        "capabilities": {"tools": {}, "resources": {}, "prompts": {}, "logging": {}, "completions": {}},
        "instructions": "AI-accessible WooCommerce operations via MCP",
    },
    # HTTP 200: the adapter takes it for an error of the application's.
    unknown_session=(INVALID_PARAMS, "Invalid params: Invalid or expired session"),
    notified=200,
    integer_ids=True,
    checks_version=False,
    no_stream=(INTERNAL_ERROR, "Internal error: SSE streaming not yet implemented"),
)
_PLUGIN_050 = Adapter(
    versions=("2025-11-25", "2025-06-18", "2024-11-05"),
    welcome={
        "capabilities": {
            "prompts": {"listChanged": False},
            "resources": {"subscribe": False, "listChanged": False},
            "tools": {"listChanged": False},
        },
        "serverInfo": {"name": "MCP Adapter Default Server", "version": "v1.0.0"},
        "instructions": "Default MCP server for WordPress abilities discovery and execution",
    },
    unknown_session=(SESSION_NOT_FOUND, "Session not found: Invalid or expired session"),
    notified=202,
    integer_ids=False,  # (read)
    checks_version=True,
    no_stream=None,
)
# Recorded of 0.4.1 is its error for an unknown session, and read that the check came with 0.5.0;
# the rest is taken to be the same.
PLUGIN_ADAPTERS: Mapping[str, Adapter] = {
    "0.5.0": _PLUGIN_050,
    "0.4.1": replace(
        _PLUGIN_050,
        unknown_session=WOOCOMMERCE_ADAPTER.unknown_session,
        checks_version=False,
    ),
}
