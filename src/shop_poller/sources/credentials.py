"""What proves to a shop who we are, and what of it must never come back in a text."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_SECRET = 8
"""Shorter ones are not looked for in answers: they would be found by chance."""

BAD_KEY = "the key or secret of the shop has characters that no key has; copy it once more"
BAD_LOGIN = "the user name or application password has characters that neither has; copy them once more"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A header, and its secrets.

    Attributes:
        headers: sent with every request; never logged.
        secrets: the forms in which an answer may show them.
        flaw: one line on why they cannot be right, "" if they can.
    """

    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    flaw: str = ""


def api_key(consumer_key: str, consumer_secret: str) -> Credentials:
    """A consumer key as WooCommerce's MCP endpoint and the old design's bridge want it."""
    return Credentials(
        {"X-MCP-API-Key": f"{consumer_key}:{consumer_secret}"},
        _forms(consumer_key, consumer_secret),
        _flaw(consumer_key + consumer_secret, BAD_KEY),
    )


def basic_key(consumer_key: str, consumer_secret: str) -> Credentials:
    """A consumer key as WooCommerce's REST API wants it: Basic, https only."""
    token = _token(consumer_key, consumer_secret)
    return Credentials(
        {"Authorization": f"Basic {token}"},
        _forms(token, consumer_key, consumer_secret),
        _flaw(consumer_key + consumer_secret, BAD_KEY),
    )


def application_password(username: str, password: str) -> Credentials:
    """A user of WordPress with an application password; the blanks in it do not count.

    The user's name is no secret, and may be a word that answers are full of.
    """
    token = _token(username, password)
    nameless = ":" in username or not username.isprintable()
    return Credentials(
        {"Authorization": f"Basic {token}"},
        _forms(token, password, password.replace(" ", "")),
        BAD_LOGIN if nameless else _flaw(password, BAD_LOGIN),
    )


def _token(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode(errors="replace")).decode()


def _forms(*secrets: str) -> tuple[bytes, ...]:
    # PHP's JSON writes a slash, which a token may have, as "\/".
    told = [form for secret in secrets for form in (secret, secret.replace("/", "\\/"))]
    return tuple({form.encode(errors="replace"): None for form in told if len(form) >= MIN_SECRET})


def _flaw(proofs: str, words: str) -> str:
    return "" if proofs.isascii() and proofs.isprintable() else words
