"""What addresses have in common, whatever they lead to; and the address of the listener."""

import re
import unicodedata
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

import idna

from shop_poller.core.translatable import Text

HTTP = frozenset({"http", "https"})
HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(:[0-9]*)?")
LISTEN = re.compile(r"(\[[^\[\]]*\]|[^\[\]:@/\s]*):[0-9]{1,5}")
NO_SECRET = frozenset({"rest_route", "via", "page", "per_page", "lang", "_fields", "context"})
"""Parameters of an address that are none, and are in error texts."""
LEAST_SECRET = 8
NO_HOST = re.compile(r"^[.-]|[,;'\"`<>{}|^*$&()!+=~]")
"""What the system's file of hosts calls it, as distributions write it."""
MAX_HOST = 254
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
NO_CHARACTER = Text("has a character that this address may not have")


def split(address: str) -> SplitResult:
    """Take an address apart.

    Raises:
        ValueError: it is no address; said without the address, which may hold a password.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise ValueError(Text("is no valid address (host or port)")) from None
    if not HOST.fullmatch(parts.netloc.rpartition("@")[2]):  # urlsplit is lenient with brackets
        raise ValueError(Text("is no valid address (host or port)"))
    if "@" not in parts.netloc and ":" in address.partition("//")[2].rpartition("@")[0]:
        # https://user:12/34@host: the rest of the password would be taken for the path, and be shown
        raise ValueError(
            Text(
                "is no valid address; in a password write %2F for /, %3F for ? and %23 for #, in a "
                "path %40 for @"
            )
        )
    return parts


def secrets_in(url: str) -> list[str]:
    """What of an address may be a secret: a password, a user without one, the values of a query.

    Returns:
        Each as it is written and as it is meant; nothing of what is no address.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = [parts.password or parts.username or ""]
    for option in parts.query.split("&"):
        name, _, value = option.partition("=")
        if name.lower() not in NO_SECRET and len(value) >= LEAST_SECRET:
            found.append(value)
    return list(dict.fromkeys(form for one in found if one for form in (one, unquote(one))))


def ascii_address(address: str) -> str:
    """An http(s) address as it is sent: the host as xn--…, all else percent-encoded; ASCII stays as it is.

    Raises:
        ValueError: no request can be sent there; said without the address.
    """
    if bad := next((char for char in address if char.isspace() or not char.isprintable()), ""):
        raise ValueError(
            Text(
                "{problem} (U+{bad:04X}); copy it once more, or type it",
                problem=NO_CHARACTER,
                bad=ord(bad),
            )
        )
    parts = split(address)
    host = parts.hostname or ""
    if not host.isascii():
        host = _ascii_host(host)
        login, at, _ = parts.netloc.rpartition("@")
        port = f":{parts.port}" if parts.port is not None else ""
        parts = parts._replace(netloc=f"{login}{at}{host}{port}")
    if len(host) > MAX_HOST or ".." in host or NO_HOST.search(host):
        raise ValueError(
            Text("has an invalid host name; it should look like https://shop.example/wp-json/woocommerce/mcp")
        )
    if address.isascii():
        return address
    return urlunsplit(
        parts._replace(path=quote(parts.path, safe=VISIBLE), query=quote(parts.query, safe=VISIBLE))
    )


def _ascii_host(host: str) -> str:
    """RFC 5891; what a keyboard makes of the same letters (wide ones, capitals) is the same host."""
    try:
        return idna.encode(unicodedata.normalize("NFKC", host).lower().rstrip(".")).decode()
    except UnicodeError:
        raise ValueError(
            Text("has a host name with letters that no domain may have; write it in the form xn--…")
        ) from None


def parse_listen(address: str) -> tuple[str, int] | None:
    """Read SHOP_HTTP_LISTEN: host:port, [::1]:port, or nothing for off.

    Raises:
        ValueError: it is none of these.
    """
    if not address:
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not LISTEN.fullmatch(address) or int(port) > 65535:
        raise ValueError(Text("should be host:port, e.g. 127.0.0.1:9108, or empty to turn it off"))
    return host, int(port)
