"""The API keys of a shop."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ApiKey:
    """A key and secret of WooCommerce's REST API.

    Attributes:
        consumer_key: The key.
        consumer_secret: The secret.
        permissions: What the key may do.
        user: Whose key it is; sessions are counted by user.
        can_view: Whether the user's role may see orders (a customer's may not).
        user_exists: Whether the user has not been deleted since.
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

    def allows(self, *, writing: bool) -> bool:
        """Say whether the key may write, or read."""
        return self.permissions in (("write" if writing else "read"), "read_write")


DEMO_KEY = ApiKey("ck_" + "5eed" * 10, "cs_" + "ca11" * 10)
