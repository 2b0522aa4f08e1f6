"""WooCommerce's own webhooks, as hints: whether one is genuine, and what it is about.

What a webhook says is never believed: it holds the order as of delivery time, two quick changes may give one
webhook, and none is sent twice. It only makes us look.
"""

import base64
import hashlib
import hmac
import re
from enum import StrEnum

ORDERS = "order."
PING = re.compile(rb"webhook_id=[0-9]{1,20}")
"""What a shop sends, unsigned, when a webhook is saved: it only wants to know whether somebody answers."""


class Verdict(StrEnum):
    """What a webhook comes to: the label `outcome` of the metric."""

    ACCEPTED = "accepted"  # genuine, and about an order
    IGNORED = "ignored"  # a ping, or genuine and about something else
    REFUSED = "refused"  # not the shop's, as far as can be told


def judge(body: bytes, *, signature: str, topic: str, secret: str) -> Verdict:
    """What a webhook comes to.

    Args:
        body: as it was sent.
        signature: the header `X-WC-Webhook-Signature`, "" if there is none.
        topic: the header `X-WC-Webhook-Topic`, e.g. "order.updated". It is not signed.
        secret: what the shop signs with.
    """
    if not signature and PING.fullmatch(body):
        return Verdict.IGNORED
    if not is_genuine(body, signature=signature, secret=secret):
        return Verdict.REFUSED
    return Verdict.ACCEPTED if topic.startswith(ORDERS) else Verdict.IGNORED


def is_genuine(body: bytes, *, signature: str, secret: str) -> bool:
    """Whether who sent this knows the secret: base64(HMAC-SHA256(body, secret)), as WooCommerce signs."""
    key = secret.encode(errors="surrogateescape")  # the environment's bytes, should they be no UTF-8
    expected = base64.b64encode(hmac.digest(key, body, hashlib.sha256))
    # As bytes: compare_digest takes no text beyond ASCII. What cannot be encoded is no base64 anyway.
    return hmac.compare_digest(expected, signature.encode(errors="replace"))
