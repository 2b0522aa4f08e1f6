"""What proves to a shop who we are, and what of it must never come back in a text."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shop_poller.core.masking import SHORT, Masker

BAD_KEY = "the key or secret of the shop has characters that no key has; copy it once more"
BAD_LOGIN = "the user name or application password has characters that neither has; copy them once more"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A header, and its secrets.

    Attributes:
        headers: sent with every request; never logged.
        masker: takes them out of an answer.
        flaw: one line on why they cannot be right, "" if they can.
    """

    headers: Mapping[str, str] = field(repr=False)
    masker: Masker = field(repr=False)
    flaw: str = ""


def api_key(consumer_key: str, consumer_secret: str, also: Sequence[str] = ()) -> Credentials:
    """A consumer key as WooCommerce's MCP endpoint and the old design's bridge want it.

    Args:
        consumer_key: of WooCommerce.
        consumer_secret: likewise.
        also: what else the shop knows and must not show.
    """
    return Credentials(
        {"X-MCP-API-Key": f"{consumer_key}:{consumer_secret}"},
        _masker(consumer_key, consumer_secret, *also),
        _flaw(consumer_key + consumer_secret, BAD_KEY),
    )


def basic_key(consumer_key: str, consumer_secret: str, also: Sequence[str] = ()) -> Credentials:
    """A consumer key as WooCommerce's REST API wants it: Basic, https only; for `also` see `api_key`."""
    token = _token(consumer_key, consumer_secret)
    return Credentials(
        {"Authorization": f"Basic {token}"},
        _masker(token, consumer_key, consumer_secret, *also),
        _flaw(consumer_key + consumer_secret, BAD_KEY),
    )


def application_password(username: str, password: str, also: Sequence[str] = ()) -> Credentials:
    """A user of WordPress with an application password; the blanks in it do not count.

    The user's name is no secret, and may be a word that answers are full of; for `also` see `api_key`.
    """
    token = _token(username, password)
    nameless = ":" in username or not username.isprintable()
    return Credentials(
        {"Authorization": f"Basic {token}"},
        _masker(token, password, *also),
        BAD_LOGIN if nameless else _flaw(password, BAD_LOGIN),
    )


def _token(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode(errors="replace")).decode()


def _masker(*secrets: str) -> Masker:
    # Shorter ones would be found by chance in an answer of 100 orders.
    return Masker(secret for secret in secrets if len(secret) >= SHORT)


def _flaw(credentials: str, words: str) -> str:
    return "" if credentials.isascii() and credentials.isprintable() else words
