"""The addresses of the sinks `apprise+…://`: `apprise+tgram://BOTTOKEN/CHATID`, `apprise+mailto://…`.

Apprise's own form, `tgram://BOTTOKEN/CHATID`, is accepted too.

Only Apprise's plugin knows which part of such a URL is a secret: in tgram:// the host is the bot's token, in
slack:// the path is. So every part is treated as a secret: the name contains none, and the log masks all.
"""

import hashlib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from shop_poller.config.sink_spelling import refuse_misspelled
from shop_poller.config.sinks import SinkConfig, sink_name, take_options
from shop_poller.core.model import Delivery
from shop_poller.core.translatable import Text
from shop_poller.ports import Sink
from shop_poller.sinks.apprise.schemes import OWN_PARAMETERS

PREFIX = "apprise+"
LIBRARY = "apprise>=1.9"
"""What the extra `apprise` consists of."""
INSTALL = f"{shlex.quote(sys.executable or 'python3')} -m pip install {shlex.quote(LIBRARY)}"
"""Installs Apprise where this process finds it, whatever directory and environment the shell is in."""
SCHEME = re.compile(r"[a-z0-9]{1,31}")
LEAST_SECRET = 6
"""Characters. Shorter values, such as `yes` or a port, are not tokens. Masking them makes logs unreadable."""
PASSWORDS = frozenset({"pass", "password", "token", "secret", "key"})
"""Parameters that are not part of the hash in a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseConfig(SinkConfig):
    """A service that Apprise delivers to.

    Attributes:
        url: the Apprise URL, without our #name and filter; contains secrets.
    """

    prefixes = (PREFIX,)
    address_format = Text("apprise+ and an Apprise URL")
    documented_as = "`apprise+tgram://BOTTOKEN/CHATID`, `apprise+mailto://…`, `apprise+slack://…`"
    delivers_by = (
        "by [Apprise](notifications.md#over-apprise), if it is installed; `apprise+` may be left out;"
        " [examples](telegram.md#e-mail-and-other-chats)"
    )
    is_for_people = True

    url: str = field(repr=False)

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse an address; see `SinkConfig`."""
        address, fragment = take_name(address)
        scheme, found, place = address[len(PREFIX) :].partition("://")
        scheme = scheme.lower()
        if not found or not place or not SCHEME.fullmatch(scheme):
            raise ValueError(
                Text("after apprise+ comes an Apprise URL, e.g. apprise+tgram://BOTTOKEN/CHATID")
            )
        name = sink_name(fragment, "")
        place, _, query = place.partition("?")
        options, query = take_options(
            query, name=name or f"{PREFIX}{scheme}", is_for_people=cls.is_for_people
        )
        url = f"{scheme}://{place}" + (f"?{query}" if query else "")
        made = cls(name=name or hashed_name(url), options=options, url=url)
        refuse_misspelled(query, options, sink=made, own=OWN_PARAMETERS.get(scheme, ()))
        return made

    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:  # noqa: ARG002 - nothing is signed
        """Make the sink."""
        from shop_poller.sinks.apprise.sink import AppriseSink  # noqa: PLC0415 - the library takes 50 MB

        return AppriseSink(self, connections=connections)

    def shown(self, delivery: Delivery) -> str:
        """Return the message without markup, shortened to what the service takes."""
        from shop_poller.sinks.apprise.sink import AppriseSink  # noqa: PLC0415 - the library takes 50 MB

        return AppriseSink(self, connections=1).shown(delivery)

    @property
    def secrets(self) -> list[str]:
        """Every part of the URL that has at least LEAST_SECRET characters, and any password."""
        return secrets_of(self.url)


def take_name(address: str) -> tuple[str, str]:
    """Split our #name from an Apprise URL.

    A # after a slash belongs to Apprise, as in slack://…/#channel. It becomes %23, as Apprise writes it.

    Returns:
        The rest of the address, and the name ("" if there is none).
    """
    rest, _, name = address.replace("/#", "/%23").partition("#")
    return rest, name


def hashed_name(url: str) -> str:
    """Return a name for a URL without a #name.

    It is stable, differs for each chat of one bot, and contains no secret. Passwords are not hashed: a weak
    one could be guessed from the hash.
    """
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    netloc, slash, path = place.partition("/")
    login, at, host = netloc.rpartition("@")
    shown = [part for part in query.split("&") if part.partition("=")[0].lower() not in PASSWORDS]
    text = "\n".join((scheme, login.partition(":")[0], at, host, slash, path, *shown))
    return f"{PREFIX}{scheme}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def secrets_of(url: str) -> list[str]:
    """Return every part of a URL that may be a secret, as written and decoded."""
    rest = url.partition("://")[2]
    place, _, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    login, _, host = netloc.rpartition("@")
    values = [part.partition("=")[2] for part in query.split("&")]
    parts = [login, *login.split(":"), host, *host.split(":"), *path.split("/"), *values]
    found = [text for part in parts for text in (part, unquote(part)) if len(text) >= LEAST_SECRET]
    password = login.partition(":")[2]
    if password:
        found += [password, unquote(password)]
    return sorted(set(found), key=len, reverse=True)
