"""What `setup` asks, and which answers it accepts. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from shop_poller.config.addresses import ascii_address, split
from shop_poller.config.settings import REDIS_SINK
from shop_poller.core.hosts import is_loopback, is_never_proxied
from shop_poller.core.showing import is_harmless
from shop_poller.sources.woocommerce.dialects import PLAIN, of_url

KEY = re.compile(r"ck_[\x21-\x39\x3b-\x7e]{8,150}")
SECRET = re.compile(r"cs_[\x21-\x39\x3b-\x7e]{8,150}")
TOKEN = re.compile(r"[0-9]{5,15}:[A-Za-z0-9_-]{30,60}")
ADMIN = re.compile(r"/(?:wp-admin|wp-login\.php)(?:/.*)?$", re.IGNORECASE)
PATHLESS = re.compile(r"/+(?:index\.php)?/*")
CALLBACK_PORTS = frozenset({None, 80, 443, 8080})
"""The ports to which WordPress sends requests (wp_http_validate_url)."""
MAX_ADDRESS = 500
MIN_SHOWN = 3
YES = {"y", "yes", "д", "да"}
NO = {"n", "no", "н", "нет"}


class WrongAnswerError(Exception):
    """An answer cannot be right.

    Attributes:
        text: the name of a text in locales/*/setup.toml.
        values: of the placeholders in that text.
    """

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text)
        self.text = text
        self.values = values


def is_yes(text: str, *, default: bool) -> bool:
    """Return whether an answer is yes; a blank one is the default.

    Raises:
        WrongAnswerError: it is neither yes nor no.
    """
    word = text.strip().lower()
    if not word:
        return default
    if word not in YES | NO:
        raise WrongAnswerError("not_yes_or_no")
    return word in YES


def number_in(text: str, most: int) -> int:
    """Return a number from 0 to `most`.

    Raises:
        WrongAnswerError: it is none.
    """
    word = text.strip()
    if not (word.isascii() and word.isdigit() and len(word) < 4 and int(word) <= most):
        raise WrongAnswerError("not_a_number", most=most)
    return int(word)


def shop_address(text: str) -> str:
    """Return the address of a shop, without what a browser adds to it.

    Raises:
        WrongAnswerError: it is none, or keys would be sent to it in plain text.
    """
    address = text.strip()
    _refuse_keys(address)
    parts = _address(address)
    if parts.username is not None:
        raise WrongAnswerError("address_login")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise WrongAnswerError("address_http", better=f"https{_shown(address)[4:]}")
    route = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name == PLAIN]
    path = ADMIN.sub("", parts.path)
    bare = parts._replace(
        path=path if route or of_url(address) else path.rstrip("/"),
        query=f"{PLAIN}={route[0][1]}" if route else "",
        fragment="",
    )
    return _ascii(urlunsplit(bare))


def api_addresses(address: str) -> list[str]:
    """Return the addresses under which a shop may have its API, in the order to try.

    The first page of a shop may be at `/shop`, or WordPress may be in a folder of that name.
    """
    parts = urlsplit(address)
    if parts.query or of_url(address) or "/wp-json" in parts.path:
        return [address]
    root = urlunsplit(parts._replace(path=""))
    tried = [] if not parts.path or PATHLESS.fullmatch(parts.path) else [f"{address}/wp-json"]
    return [*tried, root, f"{root}/?{PLAIN}=/"]


def site_of(address: str) -> str:
    """Return the address of a shop's pages, without the path of its API and without a slash at its end."""
    parts = urlsplit(address)
    path = parts.path.partition("/wp-json")[0].removesuffix("/index.php")
    return urlunsplit(parts._replace(path=path.rstrip("/"), query=""))


def consumer_key(text: str) -> str:
    """Return a consumer key.

    Raises:
        WrongAnswerError: it is none.
    """
    return _credential(text, "ck_", "cs_", KEY)


def consumer_secret(text: str) -> str:
    """Return a consumer secret.

    Raises:
        WrongAnswerError: it is none.
    """
    return _credential(text, "cs_", "ck_", SECRET)


def bot_token(text: str) -> str:
    """Return the token of a bot.

    Raises:
        WrongAnswerError: it is none.
    """
    token = text.strip()
    if not token:
        raise WrongAnswerError("empty")
    if any(character.isspace() for character in token):
        raise WrongAnswerError("token_blanks")
    if _is_doubled(token):
        raise WrongAnswerError("pasted_twice")
    if not TOKEN.fullmatch(token):
        raise WrongAnswerError("token_form")
    return token


def callback_address(text: str) -> str:
    """Return the https address under which the shop reaches this machine, without a slash at its end.

    Raises:
        WrongAnswerError: WordPress would not send anything there.
    """
    parts = _address(text.strip())
    is_ours = is_never_proxied(parts.hostname or "") or parts.username is not None
    if parts.scheme != "https" or is_ours or parts.query or parts.fragment:
        raise WrongAnswerError("callback_https")
    if parts.port not in CALLBACK_PORTS:
        raise WrongAnswerError("callback_port")
    return _ascii(urlunsplit(parts)).rstrip("/")


def with_sink(present: Mapping[str, str], sink: str) -> str:
    """Return SHOP_NOTIFY_URLS with one more sink, which replaces an earlier one of its name or address.

    Args:
        present: the settings of `.env`; the filter of the earlier sink is kept.
        sink: an address with a #name and without a filter.
    """
    address, _, name = sink.partition("#")
    redis = present.get("redis_url", "").strip()  # without other sinks, this one is the default
    others = (present.get("shop_notify_urls") or (REDIS_SINK.format(redis) if redis else "")).split()
    earlier = next((one for one in others if one.endswith(f"#{name}")), "")
    _, has_filter, parameters = earlier.rpartition("#")[0].partition("?")
    kept = [one for one in others if one != earlier and re.split(r"[?#]", one)[0] != address]
    return " ".join([*kept, f"{address}{has_filter}{parameters}#{name}"])


def _address(text: str) -> SplitResult:
    if not text:
        raise WrongAnswerError("empty")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise WrongAnswerError("address_blanks")
    scheme, found, _ = text.partition("://")
    if not found or scheme.lower() not in {"http", "https"}:
        raise WrongAnswerError("address_scheme", better=f"https://{_shown(text.rpartition('://')[2])}")
    try:
        parts = split(text)
    except ValueError:
        raise WrongAnswerError("address_form") from None
    if not parts.hostname or len(text) > MAX_ADDRESS:
        raise WrongAnswerError("address_form")
    return parts


def _ascii(address: str) -> str:
    try:
        return ascii_address(address)
    except ValueError:
        raise WrongAnswerError("address_form") from None


def _shown(text: str) -> str:
    """Return an address as an error may repeat it: without what may be a secret."""
    scheme, found, rest = text.rpartition("://")
    host = rest.partition("/")[0].partition("?")[0]
    harmless = (
        "." in host and "@" not in host and all(is_harmless(part, is_name=True) for part in host.split("."))
    )
    return f"{scheme}{found}{host if harmless else 'shop.example'}"


def _refuse_keys(text: str) -> None:
    if text.startswith(("ck_", "cs_")) or TOKEN.fullmatch(text):
        raise WrongAnswerError("address_is_key")


def _credential(text: str, prefix: str, other: str, form: re.Pattern[str]) -> str:
    value = text.strip()
    if not value:
        raise WrongAnswerError("empty")
    if any(character.isspace() for character in value):
        raise WrongAnswerError("key_blanks")
    if _is_doubled(value):
        raise WrongAnswerError("pasted_twice")
    if prefix in value and other in value:
        raise WrongAnswerError("key_both")
    if value.startswith(other):
        raise WrongAnswerError("key_other", needed=prefix, given=other)
    if not form.fullmatch(value):
        raise WrongAnswerError("key_form", needed=prefix, length=len(value))
    return value


def _is_doubled(text: str) -> bool:
    half, odd = divmod(len(text), 2)
    return not odd and half > MIN_SHOWN and text[:half] == text[half:]
