"""HTTP requests and responses, and JSON as PHP writes it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

SERVER = "nginx/1.22.1"
JSON_TYPE = "application/json; charset=UTF-8"
HTML_TYPE = "text/html; charset=UTF-8"
NO_CACHE = {
    "Expires": "Wed, 11 Jan 1984 05:00:00 GMT",
    "Cache-Control": "no-cache, must-revalidate, max-age=0, no-store, private",
}


@dataclass(frozen=True)
class Request:
    """An HTTP request; header names are lower-case, `secure` means that it came over TLS."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    query: str = ""
    secure: bool = False

    @cached_property
    def rpc(self) -> Any:
        """The JSON of the body, or None if it is not JSON."""
        return None if self.is_broken else json.loads(self.body)

    @cached_property
    def is_broken(self) -> bool:
        """Whether the body is not JSON; this includes an empty one."""
        try:
            json.loads(self.body)
        except ValueError:
            return True
        return False

    @property
    def is_json(self) -> bool:
        """Whether the content type is JSON."""
        return self.headers.get("content-type", "").partition(";")[0].strip() == "application/json"

    @property
    def breaks_its_word(self) -> bool:
        """Whether the content type is JSON but the body is not. WordPress checks this first."""
        return self.is_json and bool(self.body) and self.is_broken

    @property
    def rpc_method(self) -> str | None:
        """The JSON-RPC method of a single call, e.g. `tools/call`."""
        method = self.rpc.get("method") if isinstance(self.rpc, dict) else None
        return method if isinstance(method, str) else None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, and how it is delivered.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: The headers, without Date, Server and Content-Length.
        date_skew_s: How many seconds the Date header is ahead of the shop's clock; None sends
            no Date at all.
        delay_s: How many seconds the response is delayed.
        cut_after: After how many bytes of the body the connection is closed; 0 closes it before
            the first byte of the response, None sends everything.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    date_skew_s: float | None = 0.0
    delay_s: float = 0.0
    cut_after: int | None = None


def php_json(value: object) -> str:
    r"""Write JSON as PHP does: no spaces, `\/` for a slash, `\uXXXX` for non-ASCII characters."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")


def wordpress_error(code: str, message: str, status: int, **data: object) -> dict[str, object]:
    """Return WordPress's JSON for an error of its own (it is not JSON-RPC)."""
    return {"code": code, "message": message, "data": {"status": status, **data}}


def page(status: int, title: str, text: str, **headers: str) -> Answer:
    """Return an HTML page that did not come from WordPress's REST server."""
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{text}</body></html>"
    return Answer(status, body.encode(), {"Content-Type": HTML_TYPE, **headers})


def rest_headers(index_url: str, *, allow: str | None) -> dict[str, str]:
    """Return the headers of every response of WordPress's REST server.

    Args:
        index_url: The address of the REST index.
        allow: The route's methods; None if the caller may not use the route.

    Returns:
        The headers by name.
    """
    headers = {
        "Content-Type": JSON_TYPE,
        "X-Robots-Tag": "noindex",
        "Link": f'<{index_url}>; rel="https://api.w.org/"',
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Expose-Headers": "X-WP-Total, X-WP-TotalPages, Link",
        "Access-Control-Allow-Headers": (
            "Authorization, X-WP-Nonce, Content-Disposition, Content-MD5, Content-Type"
        ),
    }
    return headers if allow is None else {**headers, "Allow": allow, **NO_CACHE}
