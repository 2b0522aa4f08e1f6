"""Credentials for a shop, and the parts of them that must never appear in a text."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shop_poller.core.masking import SHORT, Masker
from shop_poller.core.translatable import Text

BAD_KEY = Text("the key or secret of the shop contains characters that no key contains; copy it again")
BAD_LOGIN = Text("the user name or application password contains invalid characters; copy them again")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A header, and the secrets in it.

    Attributes:
        headers: sent with every request; never logged.
        masker: removes the secrets from an answer.
        flaw: one line on why the credentials cannot be correct; "" if they can.
    """

    headers: Mapping[str, str] = field(repr=False)
    masker: Masker = field(repr=False)
    flaw: str = ""


def api_key(consumer_key: str, consumer_secret: str, other_secrets: Sequence[str] = ()) -> Credentials:
    """Return a consumer key as WooCommerce's MCP endpoint and the old design's bridge require it.

    Args:
        consumer_key: the consumer key of WooCommerce.
        consumer_secret: its secret.
        other_secrets: other secrets that the shop knows and must not show.
    """
    return Credentials(
        {"X-MCP-API-Key": f"{consumer_key}:{consumer_secret}"},
        _masker(consumer_key, consumer_secret, *other_secrets),
        _flaw(consumer_key + consumer_secret, BAD_KEY),
    )


def basic_key(consumer_key: str, consumer_secret: str, other_secrets: Sequence[str] = ()) -> Credentials:
    """Return a consumer key as WooCommerce's REST API requires it: Basic, https only. See `api_key`."""
    token = _token(consumer_key, consumer_secret)
    return Credentials(
        {"Authorization": f"Basic {token}"},
        _masker(token, consumer_key, consumer_secret, *other_secrets),
        _flaw(consumer_key + consumer_secret, BAD_KEY),
    )


def application_password(username: str, password: str, other_secrets: Sequence[str] = ()) -> Credentials:
    """Return a WordPress user with an application password. Spaces in the password are ignored.

    The user's name is not a secret, and may be a common word in answers. For `also`, see `api_key`.
    """
    token = _token(username, password)
    nameless = ":" in username or not username.isprintable()
    return Credentials(
        {"Authorization": f"Basic {token}"},
        _masker(token, password, *other_secrets),
        BAD_LOGIN if nameless else _flaw(password, BAD_LOGIN),
    )


def _token(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode(errors="replace")).decode()


def _masker(*secrets: str) -> Masker:
    # Shorter secrets would match by chance in an answer of 100 orders.
    return Masker(secret for secret in secrets if len(secret) >= SHORT)


def _flaw(credentials: str, words: str) -> str:
    return "" if credentials.isascii() and credentials.isprintable() else words
