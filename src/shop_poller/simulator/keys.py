"""The shop's credentials: WooCommerce's API keys and WordPress's application passwords."""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ApiKey:
    """A key and secret of WooCommerce's REST API.

    Attributes:
        consumer_key: The key.
        consumer_secret: The secret.
        permissions: What the key may do.
        user: The owner of the key; sessions are counted by user.
        can_view: Whether the user's role may see orders (a customer's may not).
        user_exists: Whether the user still exists.
    """

    consumer_key: str
    consumer_secret: str
    permissions: Literal["read", "write", "read_write"] = "read"
    user: str = "poller"
    can_view: bool = True
    user_exists: bool = True

    @property
    def header(self) -> str:
        """The value of the header X-MCP-API-Key."""
        return f"{self.consumer_key}:{self.consumer_secret}"

    @property
    def basic(self) -> str:
        """The value of the header Authorization, for the REST API."""
        return _basic(self.consumer_key, self.consumer_secret)

    def allows(self, *, writing: bool) -> bool:
        """Say whether the key may write, or read."""
        return self.permissions in (("write" if writing else "read"), "read_write")


@dataclass(frozen=True)
class AppPassword:
    """An application password of a WordPress user.

    Attributes:
        username: The user's login; sessions are counted by user.
        password: The password; characters other than letters and digits are ignored.
        can_view: Whether the user's role may see orders.
    """

    username: str
    password: str
    can_view: bool = True

    @property
    def user(self) -> str:
        """The owner of the password."""
        return self.username

    @property
    def basic(self) -> str:
        """The value of the header Authorization."""
        return _basic(self.username, self.password)

    def opens(self, password: str) -> bool:
        """Return whether this is the password, with or without its spaces."""
        return _bare(password) == _bare(self.password)


def _basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{name}:{secret}".encode()).decode()


def _bare(password: str) -> str:
    return re.sub("[^a-zA-Z0-9]", "", password)


DEMO_KEY = ApiKey("ck_" + "5eed" * 10, "cs_" + "ca11" * 10)
DEMO_PASSWORD = AppPassword("poller", "demo ONLY demo ONLY demo ONLY")
