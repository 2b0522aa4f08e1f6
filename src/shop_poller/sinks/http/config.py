"""The addresses of the sink `http(s)://`. The query belongs to the receiver, except for our own options."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from shop_poller.config.addresses import secrets_in, split
from shop_poller.config.sink_spelling import misspelled, refuse_misspelled
from shop_poller.config.sinks import SinkConfig, place, sink_name, take_options
from shop_poller.core import chat_hooks
from shop_poller.core.spelling import closest
from shop_poller.core.translatable import Text
from shop_poller.ports import Sink

TOKEN = re.compile(r"(?=[^/]*[0-9])[A-Za-z0-9_.~%-]{20,}")
"""A part of a path that may be a secret: long, and with a digit, unlike most words."""
BOT_TOKEN = re.compile(r"(bot)?[0-9]{5,}:[A-Za-z0-9_-]{20,}")
"""The part of a Telegram API address that contains the bot's token."""
HOOK_PART = re.compile(r"(?=.*[0-9A-Z])[^/]{8,}")
"""A part of a chat service's webhook address that is not a word."""
REDIRECTS, REDIRECTED = "redirects", "delivered"
"""Our option that only http(s) sinks have, and its only value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig(SinkConfig):
    """A receiver of POST requests.

    Attributes:
        url: the address without the fragment and our options; may contain a password.
        takes_redirects: whether a response 302 or 303 means that the receiver processed the notification.
    """

    prefixes = ("http:", "https:")
    address_format = "http(s)://host/path"
    documented_as = "`https://host/path`, `http://host/path`"
    delivers_by = "POST"

    url: str = field(repr=False)
    takes_redirects: bool = False

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse an address; see `SinkConfig`."""
        parts = split(address)
        name = sink_name(parts.fragment, _default_name(parts))
        if not parts.hostname:
            raise ValueError(Text("an address that begins with {scheme}:// has no host", scheme=parts.scheme))
        options, query = take_options(parts.query, name=name)
        rest = [part for part in query.split("&") if part != f"{REDIRECTS}={REDIRECTED}"]
        made = cls(
            name=name,
            options=options,
            url=urlunsplit(parts._replace(query="&".join(rest), fragment="")),
            takes_redirects=len(rest) < len(query.split("&")),
        )
        refuse_misspelled("&".join(rest), options, sink=made)
        for part in rest:  # `redirect=` with another value is the receiver's
            option, _, value = part.partition("=")
            if value == REDIRECTED and closest(option, [REDIRECTS]) == REDIRECTS:
                raise ValueError(misspelled(name, option, REDIRECTS))
        return made

    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:  # noqa: ARG002 - there is no limit
        """Make the sink."""
        from shop_poller.sinks.http.sink import HttpSink  # noqa: PLC0415 - httpx is large

        return HttpSink(self, keys=signing_keys)

    @property
    def chat_hook(self) -> chat_hooks.ChatHook | None:
        """The chat service that the address belongs to, if it requires a different JSON."""
        return chat_hooks.recognise(self.url)

    @property
    def chat_service_advice(self) -> str:
        """Advice on what to write instead of the address of a chat service."""
        hook = self.chat_hook
        return chat_hooks.advice(hook) if hook is not None else ""

    @property
    def shows_secret(self) -> bool:
        """Whether the name is the address, and its path looks like a secret."""
        if not self._name_has_path:
            return False
        return any(TOKEN.fullmatch(part) for part in urlsplit(self.url).path.split("/"))

    @property
    def secrets(self) -> list[str]:
        """Possible secrets in the user, password and query, and in the path unless the name shows it."""
        found = secrets_in(self.url)
        if self._name_has_path:
            return found
        hook = self.chat_hook
        for part in urlsplit(self.url).path.split("/"):
            if TOKEN.fullmatch(part) or BOT_TOKEN.fullmatch(part) or (hook and HOOK_PART.fullmatch(part)):
                found += [part, unquote(part)]
        return found

    @property
    def _name_has_path(self) -> bool:
        hook = self.chat_hook
        return "/" in self.name and (hook is None or not hook.is_certain)


def _default_name(parts: SplitResult) -> str:
    hook = chat_hooks.recognise(urlunsplit(parts))
    if hook is not None and hook.is_certain:
        return chat_hooks.hidden_name(parts.scheme, parts.netloc.rpartition("@")[2], parts.path)
    return place(parts)
