"""Apprise URLs as addresses of sinks: `apprise+tgram://BOTTOKEN/CHATID`, `apprise+mailto://…`.

Only Apprise's plugin knows which part of its URL is a secret: in tgram:// the host is the bot's token, in
slack:// the path. So every part counts as a secret: none is in the name, and all are masked in the log.
"""

import hashlib
import re
from urllib.parse import unquote

PREFIX = "apprise+"
SCHEME = re.compile(r"[a-z][a-z0-9]{0,30}")
LEAST_SECRET = 6
"""What is shorter, such as `yes` or a port, is no token; masking it would garble every line of the log."""
PASSWORDS = frozenset({"pass", "password", "token", "secret", "key"})
"""Parameters that a name does not depend on."""


def take_name(address: str) -> tuple[str, str]:
    """Take our #name off an Apprise URL.

    A # that follows a slash is Apprise's, as in slack://…/#channel; it is written %23, as Apprise does.

    Returns:
        The rest of the address, and the name; "" if there is none.
    """
    rest, _, name = address.replace("/#", "/%23").partition("#")
    return rest, name


def hashed_name(url: str) -> str:
    """A name for a URL without a #name: stable, another for each chat of one bot, and no secret.

    Passwords are left out of what is hashed, since they may be weak enough to be guessed from it.
    """
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    netloc, slash, path = place.partition("/")
    login, at, host = netloc.rpartition("@")
    shown = [part for part in query.split("&") if part.partition("=")[0].lower() not in PASSWORDS]
    text = "\n".join((scheme, login.partition(":")[0], at, host, slash, path, *shown))
    return f"{PREFIX}{scheme}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def secrets_of(url: str) -> list[str]:
    """Everything in a URL that may be a secret, as it is written and as it is meant."""
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
