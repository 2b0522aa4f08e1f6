"""WooCommerce's own webhooks, as poll triggers: whether one is genuine, and what it is about.

The content of a webhook is never used, because it shows the order as of delivery time. Two quick changes may
cause one webhook, and no webhook is sent twice. So a webhook only triggers a poll.
"""

import base64
import hashlib
import hmac
import re

from shop_poller.core.webhooks import Verdict

SIGNATURE = "x-wc-webhook-signature"
TOPIC = "x-wc-webhook-topic"
ORDERS = "order."
PING = re.compile(rb"webhook_id=[0-9]{1,20}")
"""The unsigned body that a shop sends when a webhook is saved, to check that the receiver answers."""
MAX_PING = 64
"""Bytes of an unsigned body that are read. The ping of a shop is not longer."""


class WebhookVerifier:
    """Verifies a body that arrives in parts. It stores no more bytes than a ping may have.

    Args:
        secret: the secret that the shop signs with.

    Attributes:
        size: the number of bytes so far.
    """

    def __init__(self, secret: str) -> None:
        # Restores the environment's bytes if they are not UTF-8.
        self._mac = hmac.new(secret.encode(errors="surrogateescape"), digestmod=hashlib.sha256)
        self._begin = b""
        self.size = 0

    def add(self, part: bytes) -> None:
        """Add the next part of the body."""
        self._mac.update(part)
        self._begin += part[: MAX_PING + 1 - len(self._begin)]
        self.size += len(part)

    def verdict(self, *, signature: str, topic: str) -> Verdict:
        """Return the verdict on the whole body.

        Args:
            signature: the header SIGNATURE; "" if there is none.
            topic: the header TOPIC, e.g. "order.updated". It is not signed.
        """
        if not signature and PING.fullmatch(self._begin):
            return Verdict.IGNORED
        if not self.is_genuine(signature):
            return Verdict.REFUSED
        return Verdict.ACCEPTED if topic.startswith(ORDERS) else Verdict.IGNORED

    def is_genuine(self, signature: str) -> bool:
        """Return whether the sender knows the secret. WooCommerce signs base64(HMAC-SHA256(body, secret))."""
        expected = base64.b64encode(self._mac.digest())
        # As bytes: compare_digest accepts only ASCII text. Text that cannot be encoded is not base64 anyway.
        return hmac.compare_digest(expected, signature.encode(errors="replace"))
