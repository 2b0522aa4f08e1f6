"""Webhooks as WooCommerce sends them, signed by Python's own hmac rather than by what is tested."""

import base64
import hashlib
import hmac

SECRET = "a secret of the shop"


def sign(body: bytes, secret: str | bytes = SECRET) -> str:
    """The header X-WC-Webhook-Signature."""
    key = secret.encode() if isinstance(secret, str) else secret
    return base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()


def headers(body: bytes, *, topic: str = "order.updated", secret: str = SECRET) -> dict[str, str]:
    """The headers of a webhook that count."""
    return {"x-wc-webhook-topic": topic, "x-wc-webhook-signature": sign(body, secret)}
