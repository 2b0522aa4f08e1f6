"""What the addresses in the settings mean: of sinks, of the state, of the listener."""

import re
import unicodedata
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

import idna

from shop_poller.config import apprise_address
from shop_poller.core import chat_hooks
from shop_poller.core.filters import EVERYTHING, Filter, take_filter
from shop_poller.core.showing import is_harmless, shown_place

HTTP = frozenset({"http", "https"})
REDIS = frozenset({"redis", "rediss"})
APPRISE = "apprise"
STREAM = frozenset({"redis+stream", "rediss+stream"})
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(:[0-9]*)?")
LISTEN = re.compile(r"(\[[^\[\]]*\]|[^\[\]:@/\s]*):[0-9]{1,5}")
DATABASE = re.compile(r"(/[0-9]{0,5})?")
COUNT = re.compile(r"[1-9][0-9]{0,8}")
DEFAULT_MAXLEN = 10_000
TOKEN = re.compile(r"(?=[^/]*[0-9])[A-Za-z0-9_.~%-]{20,}")
"""A part of a path that may be a secret: long, and with a digit, as hardly any words are."""
BOT_TOKEN = re.compile(r"(bot)?[0-9]{5,}:[A-Za-z0-9_-]{20,}")
"""A part of an address of Telegram's."""
HOOK_PART = re.compile(r"(?=.*[0-9A-Z])[^/]{8,}")
"""A part of the address of a chat's webhook that is no word."""
NO_SECRET = frozenset({"rest_route", "via", "page", "per_page", "lang", "_fields", "context"})
"""Parameters of an address that are none, and are in error texts."""
LEAST_SECRET = 8
NO_HOST = re.compile(r"^[.-]|[,;'\"`<>{}|^*$&()!+=~]")
"""What the system's file of hosts calls it, as distributions write it."""
MAX_HOST = 254
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
NO_CHARACTER = "has a character that this address may not have"
LIKE = "it should look like https://shop.example/wp-json/woocommerce/mcp"
REDIRECTS = "redirects=delivered"
BAD_NAME = "a sink's #name is made of up to 64 letters, digits, dots, dashes, underscores"


@dataclass(frozen=True, slots=True)
class SinkAddress:
    """The address of a sink.

    Attributes:
        name: the fragment, else scheme, host and path; for Apprise a hash. It appears in rows, logs and
            metrics, so it is never a secret.
        scheme: `apprise` for all URLs of Apprise.
        url: without fragment and our options, as the client library expects it. It may contain a
            password, so it is not shown.
        channel: the channel that Redis publishes to.
        stream: the key of the stream that Redis adds to.
        maxlen: about how many entries the stream keeps.
        filter: which notifications the sink accepts.
        takes_redirects: 302 or 303 means that the receiver has accepted the notification.
    """

    name: str
    scheme: str
    url: str = field(repr=False)
    channel: str = ""
    stream: str = ""
    maxlen: int = DEFAULT_MAXLEN
    filter: Filter = EVERYTHING
    takes_redirects: bool = False

    @property
    def password(self) -> str:
        """The password in the address; "" if there is none."""
        return urlsplit(self.url).password or ""

    @property
    def shows_secret(self) -> bool:
        """Whether the name is the address, and the address has a path that looks like a secret."""
        if self.scheme not in HTTP or "/" not in self.name:  # a #name has none
            return False
        if self.chat_hook is not None and self.chat_hook.is_certain:  # its name has a hash instead
            return False
        return any(TOKEN.fullmatch(part) for part in urlsplit(self.url).path.split("/"))

    @property
    def chat_hook(self) -> chat_hooks.ChatHook | None:
        """The chat service that the address belongs to, if it is one that takes another JSON."""
        return chat_hooks.recognise(self.url) if self.scheme in HTTP else None

    @property
    def secrets(self) -> list[str]:
        """What of the address must never be seen, as it is written and as it is meant."""
        if self.scheme == APPRISE:
            return apprise_address.secrets_of(self.url)
        found = secrets_in(self.url)
        hook = self.chat_hook
        if "/" in self.name and (hook is None or not hook.is_certain):
            return found  # its name shows the path, see `shows_secret`
        for part in urlsplit(self.url).path.split("/"):
            if TOKEN.fullmatch(part) or BOT_TOKEN.fullmatch(part) or (hook and HOOK_PART.fullmatch(part)):
                found += [part, unquote(part)]
        return found


def parse_sink(address: str) -> SinkAddress:
    """Read one address of SHOP_NOTIFY_URLS.

    Raises:
        ValueError: with what is wrong, and without the address itself, which may hold a password.
    """
    if address.lower().startswith(apprise_address.PREFIX):
        return _apprise_sink(address)
    parts = split(address)
    name = _sink_name(parts)
    if parts.scheme == "console":
        wanted, options = take_filter(parts.query)
        if options:
            raise ValueError(f"{name} has an option that is not known; there are events and levels")
        return SinkAddress(name, parts.scheme, "console:", filter=wanted)
    if parts.scheme not in HTTP | REDIS | STREAM:
        # Nothing else is shown: what an address without its beginning begins with may be its password.
        may_be_shown = parts.scheme and parts.netloc and is_harmless(parts.scheme, is_name=True)
        kind = f"{parts.scheme}://" if may_be_shown else "an address without its beginning"
        raise ValueError(
            f"{kind} is not a kind of sink. Use http(s)://host/path,"
            " redis(s)://host:port/0?channel=name, redis(s)+stream://host:port/0?stream=name,"
            " apprise+ and an Apprise URL, or console:"
        )
    if not parts.hostname:
        raise ValueError(f"an address that begins with {parts.scheme}:// has no host")
    if parts.scheme in HTTP:
        wanted, query = take_filter(parts.query)
        takes_redirects, query = _take_redirects(query)
        url = urlunsplit(parts._replace(query=query, fragment=""))
        return SinkAddress(name, parts.scheme, url, filter=wanted, takes_redirects=takes_redirects)
    return _redis_sink(name, parts)


def _apprise_sink(address: str) -> SinkAddress:
    address, name = apprise_address.take_name(address)
    scheme, found, place = address[len(apprise_address.PREFIX) :].partition("://")
    scheme = scheme.lower()
    if not found or not place or not apprise_address.SCHEME.fullmatch(scheme):
        raise ValueError("after apprise+ comes an Apprise URL, e.g. apprise+tgram://BOTTOKEN/CHATID")
    if name and not NAME.fullmatch(name):
        raise ValueError(BAD_NAME)
    place, _, query = place.partition("?")
    wanted, query = take_filter(query)
    url = f"{scheme}://{place}" + (f"?{query}" if query else "")
    return SinkAddress(name or apprise_address.hashed_name(url), APPRISE, url, filter=wanted)


def _take_redirects(query: str) -> tuple[bool, str]:
    """Whether `redirects=delivered` is in a query, and the rest of it as it was written."""
    rest = [part for part in query.split("&") if part != REDIRECTS]
    return len(rest) < len(query.split("&")), "&".join(rest)


def _redis_sink(name: str, parts: SplitResult) -> SinkAddress:
    if not DATABASE.fullmatch(parts.path):
        raise ValueError("a Redis address ends in the number of a database, e.g. redis://host:6379/0")
    wanted, query = take_filter(parts.query)
    options = _options(name, query)
    what, example = (
        ("stream", "shop:events") if parts.scheme in STREAM else ("channel", "notification:events")
    )
    target = options.pop(what, "")
    if not target:
        raise ValueError(f"{shown_place(name)} names no {what}; add ?{what}={example}")
    scheme = parts.scheme.removesuffix("+stream")
    url = urlunsplit(parts._replace(scheme=scheme, query="", fragment=""))
    if what == "channel":
        sink = SinkAddress(name, parts.scheme, url, channel=target, filter=wanted)
    else:
        maxlen = options.pop("maxlen", str(DEFAULT_MAXLEN))
        if not COUNT.fullmatch(maxlen):
            raise ValueError(f"{shown_place(name)} has a maxlen that is no number from 1 to 999999999")
        sink = SinkAddress(name, parts.scheme, url, stream=target, maxlen=int(maxlen), filter=wanted)
    if options:
        # One that is a secret was perhaps to be its value.
        unknown = [option if is_harmless(option, is_name=True) else "…" for option in sorted(options)]
        raise ValueError(f"{shown_place(name)} has an option that is not known: {', '.join(unknown)}")
    return sink


def _options(name: str, query: str) -> dict[str, str]:
    """Ours in the address of Redis; one that is empty or there twice is a slip of the pen."""
    found: dict[str, str] = {}
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option in found and option in {"channel", "stream", "maxlen"}:
            raise ValueError(
                f"{shown_place(name)} has the option {option} more than once; which one is meant?"
            )
        found[option] = value
    return found


def split(address: str) -> SplitResult:
    """Take an address apart.

    Raises:
        ValueError: it is no address; said without the address, which may hold a password.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise ValueError("is no valid address (host or port)") from None
    if not HOST.fullmatch(parts.netloc.rpartition("@")[2]):  # urlsplit is lenient with brackets
        raise ValueError("is no valid address (host or port)")
    if "@" not in parts.netloc and ":" in address.partition("//")[2].rpartition("@")[0]:
        # https://user:12/34@host: the rest of the password would be taken for the path, and be shown
        raise ValueError(
            "is no valid address; in a password write %2F for /, %3F for ? and %23 for #, in a path %40 for @"
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
        raise ValueError(f"{NO_CHARACTER} (U+{ord(bad):04X}); copy it once more, or type it")
    parts = split(address)
    host = parts.hostname or ""
    if not host.isascii():
        host = _ascii_host(host)
        login, at, _ = parts.netloc.rpartition("@")
        port = f":{parts.port}" if parts.port is not None else ""
        parts = parts._replace(netloc=f"{login}{at}{host}{port}")
    if len(host) > MAX_HOST or ".." in host or NO_HOST.search(host):
        raise ValueError(f"has an invalid host name; {LIKE}")
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
            "has a host name with letters that no domain may have; write it in the form xn--…"
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
        raise ValueError("should be host:port, e.g. 127.0.0.1:9108, or empty to turn it off")
    return host, int(port)


def _sink_name(parts: SplitResult) -> str:
    if parts.fragment:
        if not NAME.fullmatch(parts.fragment):
            raise ValueError(BAD_NAME)
        return parts.fragment
    if parts.scheme == "console":
        return "console:"
    host = parts.netloc.rpartition("@")[2]
    hook = chat_hooks.recognise(urlunsplit(parts))
    if hook is not None and hook.is_certain:
        return chat_hooks.hidden_name(parts.scheme, host, parts.path)
    return f"{parts.scheme}://{host}{parts.path}"[:200]
