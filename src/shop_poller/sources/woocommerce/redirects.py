"""Where a redirect leads, and its purpose: an address to use instead, a login, a maintenance page.

Keys are sent only to the address in the settings, so a redirect is an error. The error says what to do.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit, urlunsplit

from shop_poller.core.plain_text import plain
from shop_poller.http.client import LOGIN
from shop_poller.sources.woocommerce.dialects import PLAIN, of_url

MAX_SHOWN = 200
"""Characters of an address that are shown."""

WAITING = re.compile(
    r"/[^/]*(?:maint[ae]n|coming-?soon|under-?construction|wartung|offline|be-right-back|launching)",
    re.IGNORECASE,
)
LANGUAGE = re.compile(r"/[a-z]{2,3}(?:[-_][a-z]{2,4})?", re.IGNORECASE)


class Reason(StrEnum):
    """The purpose of a redirect, as far as its address shows."""

    NOWHERE = "nowhere"  # no address, or not an HTTP address
    SAME = "same"  # the address of the request
    HTTPS = "https"
    HTTP = "http"
    HOST = "host"  # with or without www, or another domain
    SLASH = "slash"
    LANGUAGE = "language"
    PATH = "path"  # another path for the same endpoint
    LOGIN = "login"
    WAITING = "waiting"  # maintenance, or a shop that is not open yet
    PAGE = "page"  # a page for visitors


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a redirect leads.

    Attributes:
        to: the address without user, password and query (except that of plain permalinks), so that it can be
            shown; "" if there is none.
        is_usable: whether the address leads to the requested endpoint and can be set in the settings.
    """

    reason: Reason
    to: str
    is_usable: bool


def read_redirect(requested: str, location: str) -> Redirect:
    """Find out where a redirect leads.

    Args:
        requested: the address of the request.
        location: the unchanged header; may be relative.
    """
    here = urlsplit(requested)
    try:
        there = urlsplit(urljoin(requested, "".join(location.split())[:4000])) if location.strip() else None
        if there is None or there.scheme not in {"http", "https"} or not there.hostname:
            return Redirect(Reason.NOWHERE, "", is_usable=False)
        port = f":{there.port}" if there.port else ""
    except ValueError:
        return Redirect(Reason.NOWHERE, "", is_usable=False)
    host = there.hostname if ":" not in there.hostname else f"[{there.hostname}]"
    shown = _shown(there._replace(netloc=f"{host}{port}"))
    reason = _reason(here, there)
    stays_safe = there.scheme == "https" or here.scheme == "http"
    is_usable = (
        reason in {Reason.HTTPS, Reason.HOST, Reason.SLASH, Reason.LANGUAGE, Reason.PATH}
        and stays_safe
        and len(shown) <= MAX_SHOWN
    )
    return Redirect(reason, _cut(shown), is_usable)


def leads_back(requested: str, location: str) -> bool:
    """Return whether a redirect leads to exactly the address of the request, including the query."""
    try:
        return urlsplit(urljoin(requested, location.strip()))._replace(fragment="") == urlsplit(requested)
    except ValueError:
        return False


def _reason(here: SplitResult, there: SplitResult) -> Reason:  # noqa: PLR0911 - a table
    if LOGIN.search(there.path) and not LOGIN.search(here.path):
        return Reason.LOGIN
    if WAITING.search(there.path) and not WAITING.search(here.path):
        return Reason.WAITING
    ours, theirs = here.path.rstrip("/"), there.path.rstrip("/")
    if ours == theirs and _route(here) == _route(there):
        if (here.scheme, there.scheme) == ("https", "http"):
            return Reason.HTTP
        if here.hostname != there.hostname:
            return Reason.HOST
        if here.scheme != there.scheme:
            return Reason.HTTPS
        if _port(here) != _port(there):
            return Reason.HOST
        return Reason.SAME if here.path == there.path else Reason.SLASH
    if theirs.endswith(ours) and ours and LANGUAGE.fullmatch(theirs.removesuffix(ours)):
        return Reason.LANGUAGE
    named = of_url(urlunsplit(here))
    if named is not None and named is of_url(urlunsplit(there)):
        return Reason.PATH
    return Reason.PAGE


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _route(parts: SplitResult) -> str:
    return dict(parse_qsl(parts.query)).get(PLAIN, "").rstrip("/")


def _shown(parts: SplitResult) -> str:
    route = dict(parse_qsl(parts.query)).get(PLAIN, "")
    query = f"{PLAIN}={quote(route, safe='/')}" if route else ""
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def _cut(shown: str) -> str:
    printable = "".join(char if char.isprintable() and char != " " else "?" for char in plain(shown))
    return printable if len(printable) <= MAX_SHOWN else f"{printable[:MAX_SHOWN]}…"
