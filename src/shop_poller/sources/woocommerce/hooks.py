"""WooCommerce's own webhooks, as hints: whether one is genuine, and what it is about.

What a webhook says is never believed: it holds the order as of delivery time, two quick changes may give one
webhook, and none is sent twice. It only makes us look.
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
"""What a shop sends, unsigned, when a webhook is saved: it only wants to know whether somebody answers."""
MAX_PING = 64
"""Of what comes without a signature: more than the ping of a shop need not be read."""


class WebhookVerifier:
    """Judges a body that comes in parts, of which it keeps no more than a ping has.

    Args:
        secret: what the shop signs with.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, secret: str) -> None:
        # The environment's bytes, should they be no UTF-8.
        self._mac = hmac.new(secret.encode(errors="surrogateescape"), digestmod=hashlib.sha256)
        self._begin = b""
        self.size = 0

    def add(self, part: bytes) -> None:
        """The next part of the body."""
        self._mac.update(part)
        self._begin += part[: MAX_PING + 1 - len(self._begin)]
        self.size += len(part)

    def verdict(self, *, signature: str, topic: str) -> Verdict:
        """What the whole body leads to.

        Args:
            signature: the header SIGNATURE, "" if there is none.
            topic: the header TOPIC, e.g. "order.updated". It is not signed.
        """
        if not signature and PING.fullmatch(self._begin):
            return Verdict.IGNORED
        if not self.is_genuine(signature):
            return Verdict.REFUSED
        return Verdict.ACCEPTED if topic.startswith(ORDERS) else Verdict.IGNORED

    def is_genuine(self, signature: str) -> bool:
        """Whether who sent this knows the secret: base64(HMAC-SHA256(body, secret)), as WooCommerce signs."""
        expected = base64.b64encode(self._mac.digest())
        # As bytes: compare_digest takes no text beyond ASCII. What cannot be encoded is no base64 anyway.
        return hmac.compare_digest(expected, signature.encode(errors="replace"))
