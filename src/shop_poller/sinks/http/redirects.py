"""What a redirect means for a notification.

No redirect is followed, because the body and its signature are for one address. A receiver may process the
notification and then answer 302 or 303, as Google Apps Script always does. A proxy may redirect every request
before the notification is processed. Only the owner knows which, so the error says what to set.
"""

import re
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text
from shop_poller.http.client import LOGIN
from shop_poller.sinks.http.config import HttpConfig

SEE_OTHER = frozenset({302, 303})
"""Statuses that a receiver may send after it processed the notification."""
TRY_IT = Text("; notify-test shows what it answers to a notification")
MAX_SHOWN = 200
PLAIN = re.compile(r"[A-Za-z_.-]{0,24}|v?[0-9]{1,3}")
"""A part of a path that can be shown: a word, or a version."""


def refusal(config: HttpConfig, response: httpx.Response, message: str) -> PermanentError:
    """Return the error for a 3xx response.

    Args:
        config: the sink's config.
        response: the response.
        message: the beginning of the error text.
    """
    may_be_done = response.status_code in SEE_OTHER and not _is_moved(config, response)
    return PermanentError(
        ErrorKind.PROTOCOL,
        Text("{answered}, {advice}", answered=message, advice=advice(config, response)),
        may_pass=True,
        may_be_done=may_be_done or not _target(config, response),
    )


def advice(config: HttpConfig, response: httpx.Response, *, was_sent: bool = True) -> str:
    """Return where a 3xx response leads and what to do about it: one line without a secret.

    Args:
        config: the sink's config.
        response: the response.
        was_sent: whether the request was a notification. If not, the advice says nothing about one.
    """
    target = _target(config, response)
    if target is None:
        sent = Text(
            ": the receiver may or may not have processed the notification; let it answer 200 when it has"
        )
        return Text("a redirect without a usable address{advice}", advice=sent if was_sent else TRY_IT)
    if not _is_moved(config, response) and _target_of(target) == _target_of(urlsplit(config.url)):
        return Text("a redirect to itself: check what is in front of it, such as a page to sign in")
    what_to_do = _what_to_do(config, response, target, was_sent=was_sent)
    return Text("a redirect to {target}{advice}", target=_shown(config, target), advice=what_to_do)


def _what_to_do(config: HttpConfig, response: httpx.Response, target: SplitResult, *, was_sent: bool) -> str:
    if _is_moved(config, response):
        return Text("{slash}: set that address in SHOP_NOTIFY_URLS", slash=_slash(config, target))
    if LOGIN.search(target.path) and not LOGIN.search(urlsplit(config.url).path):
        return Text(
            ", a page to sign in: check its address in SHOP_NOTIFY_URLS, or let it take "
            "notifications without a login"
        )
    if response.status_code not in SEE_OTHER:
        return Text(": set the final address in SHOP_NOTIFY_URLS")
    if not was_sent:
        return TRY_IT
    return Text(
        ": the receiver probably processed the notification (or requires a login). Let it "
        "answer 200, or add redirects=delivered to its address in SHOP_NOTIFY_URLS to count "
        "that as delivered"
    )


def _target(config: HttpConfig, response: httpx.Response) -> SplitResult | None:
    """Return where the response leads; None if that is not an HTTP address."""
    location = response.headers.get("location", "").strip()
    try:
        target = urlsplit(urljoin(config.url, location))
        _ = target.port
    except ValueError:
        return None
    return target if location and target.hostname else None


def _is_moved(config: HttpConfig, response: httpx.Response) -> bool:
    """Return whether it is the same receiver: only scheme, port, www or the slash at the end differs."""
    target = _target(config, response)
    if target is None:
        return False
    ours = urlsplit(config.url)
    same_host = _bare_host(target) == _bare_host(ours)
    same_path = target.path.rstrip("/") == ours.path.rstrip("/")
    return same_host and same_path and _target_of(target)[:-1] != _target_of(ours)[:-1]


def _slash(config: HttpConfig, target: SplitResult) -> str:
    """Return what differs at the end of a path that is not shown."""
    if not _shown(config, target).endswith("…"):
        return ""
    ends, ended = (path.endswith("/") for path in (target.path, urlsplit(config.url).path))
    if ends == ended:
        return ""
    return Text(", with a slash at its end") if ends else Text(", without the slash at its end")


def _bare_host(parts: SplitResult) -> str:
    return (parts.hostname or "").removeprefix("www.")


def _target_of(parts: SplitResult) -> tuple[str, str, int | None, str, str]:
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default, parts.path or "/", parts.query


def _is_plain(part: str, ours: str, may_show_ours: bool) -> bool:  # noqa: FBT001 - only _shown calls it
    if part and part in ours.split("/"):
        return may_show_ours
    return PLAIN.fullmatch(part) is not None


def _shown(config: HttpConfig, target: SplitResult) -> str:
    """Return a target without its user, its parameters, and any part of its path that may be a secret."""
    ours = urlsplit(config.url).path
    may_show_ours = "/" in config.name and not config.shows_secret and config.chat_hook is None
    parts = [part if _is_plain(part, ours, may_show_ours) else "…" for part in target.path.split("/")]
    if not may_show_ours and target.path.rstrip("/") == ours.rstrip("/"):
        path = "/…" if ours.strip("/") else ""  # the owner knows the path, and its #name hides it
    else:
        path = "/".join(parts)
    host = target.netloc.rpartition("@")[2]
    return one_line(Masker(config.secrets).mask(f"{target.scheme}://{host}{path}"), MAX_SHOWN)
