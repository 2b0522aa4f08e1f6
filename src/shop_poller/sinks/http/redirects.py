"""What a redirect says of a notification. None is followed: the body, and its signature, are for one address.

A receiver may have done its work and then answer 302 or 303, as Google Apps Script always does; a proxy may
send everybody elsewhere before anything is done. Only the owner can tell, so the error says what to set.
"""

import re
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.http.client import LOGIN
from shop_poller.sinks.http.config import HttpConfig

SEE_OTHER = frozenset({302, 303})
"""Statuses with which a receiver may say that it did what it was asked to do."""
TRY_IT = "; notify-test shows what it answers to a notification"
MAX_SHOWN = 200
PLAIN = re.compile(r"[A-Za-z_.-]{0,24}|v?[0-9]{1,3}")
"""A part of a path that may be shown: a word, or a version."""


def refusal(config: HttpConfig, response: httpx.Response, message: str) -> PermanentError:
    """The error for an answer 3xx.

    Args:
        config: the sink's.
        response: the answer.
        message: begins the error's text.
    """
    may_be_done = response.status_code in SEE_OTHER and not _is_moved(config, response)
    return PermanentError(
        ErrorKind.PROTOCOL,
        f"{message}, {advice(config, response)}",
        may_pass=True,
        may_be_done=may_be_done or not _target(config, response),
    )


def advice(config: HttpConfig, response: httpx.Response, *, was_sent: bool = True) -> str:
    """Where an answer 3xx leads and what to do about it, in one line and without a secret.

    Args:
        config: the sink's.
        response: the answer.
        was_sent: a notification was asked about; else nothing can be said of what became of one.
    """
    target = _target(config, response)
    if target is None:
        sent = ": the receiver may or may not have processed the notification; let it answer 200 when it has"
        return f"a redirect without a usable address{sent if was_sent else TRY_IT}"
    if not _is_moved(config, response) and _place(target) == _place(urlsplit(config.url)):
        return "a redirect to itself: check what is in front of it, such as a page to sign in"
    return f"a redirect to {_shown(config, target)}{_what_to_do(config, response, target, was_sent=was_sent)}"


def _what_to_do(config: HttpConfig, response: httpx.Response, target: SplitResult, *, was_sent: bool) -> str:
    if _is_moved(config, response):
        return f"{_slash(config, target)}: set that address in SHOP_NOTIFY_URLS"
    if LOGIN.search(target.path) and not LOGIN.search(urlsplit(config.url).path):
        return (
            ", a page to sign in: check its address in SHOP_NOTIFY_URLS, or let it take notifications"
            " without a login"
        )
    if response.status_code not in SEE_OTHER:
        return ": set the final address in SHOP_NOTIFY_URLS"
    if not was_sent:
        return TRY_IT
    return (
        ": the receiver probably processed the notification (or requires a login). Let it answer 200, or add"
        " redirects=delivered to its address in SHOP_NOTIFY_URLS to count that as delivered"
    )


def _target(config: HttpConfig, response: httpx.Response) -> SplitResult | None:
    """Where the answer leads; None if it names nothing that can be asked."""
    location = response.headers.get("location", "").strip()
    try:
        target = urlsplit(urljoin(config.url, location))
        _ = target.port
    except ValueError:
        return None
    return target if location and target.hostname else None


def _is_moved(config: HttpConfig, response: httpx.Response) -> bool:
    """Whether the same receiver is meant, at https, with www or with another slash at the end."""
    target = _target(config, response)
    if target is None:
        return False
    ours = urlsplit(config.url)
    same_host = _bare_host(target) == _bare_host(ours)
    same_path = target.path.rstrip("/") == ours.path.rstrip("/")
    return same_host and same_path and _place(target)[:-1] != _place(ours)[:-1]


def _slash(config: HttpConfig, target: SplitResult) -> str:
    """What differs at the end of a path that is not shown."""
    if not _shown(config, target).endswith("…"):
        return ""
    ends, ended = (path.endswith("/") for path in (target.path, urlsplit(config.url).path))
    if ends == ended:
        return ""
    return ", with a slash at its end" if ends else ", without the slash at its end"


def _bare_host(parts: SplitResult) -> str:
    return (parts.hostname or "").removeprefix("www.")


def _place(parts: SplitResult) -> tuple[str, str, int | None, str, str]:
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default, parts.path or "/", parts.query


def _is_plain(part: str, ours: str, may_show_ours: bool) -> bool:  # noqa: FBT001 - of _shown alone
    if part and part in ours.split("/"):
        return may_show_ours
    return PLAIN.fullmatch(part) is not None


def _shown(config: HttpConfig, target: SplitResult) -> str:
    """A target without user, parameters, and whatever in its path may be a secret."""
    ours = urlsplit(config.url).path
    may_show_ours = "/" in config.name and not config.shows_secret and config.chat_hook is None
    parts = [part if _is_plain(part, ours, may_show_ours) else "…" for part in target.path.split("/")]
    if not may_show_ours and target.path.rstrip("/") == ours.rstrip("/"):
        path = "/…" if ours.strip("/") else ""  # the owner knows it, and gave it a name so as not to show it
    else:
        path = "/".join(parts)
    host = target.netloc.rpartition("@")[2]
    return one_line(Masker(config.secrets).mask(f"{target.scheme}://{host}{path}"), MAX_SHOWN)
