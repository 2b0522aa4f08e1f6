"""Signs what is sent over HTTP, by the Standard Webhooks specification, 1.0 (symmetric, v1)."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from shop_poller.core.translatable import Text

PREFIX = "whsec_"
MOST_KEYS = 2


def signing_key(secret: str) -> bytes:
    """Return the key in a secret: base64, with or without the prefix whsec_.

    Raises:
        ValueError: it is not base64, or not 24 to 64 bytes long as the specification requires.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:  # binascii.Error, or not even ASCII
        raise ValueError(Text("should be whsec_ and base64")) from None
    if not 24 <= len(key) <= 64:
        raise ValueError(Text("should hold 24 to 64 bytes, has {number}", number=len(key)))
    return key


def signing_keys(secrets: str) -> tuple[bytes, ...]:
    """Return the keys in one secret, or in two separated by a space: the new one and the retiring one.

    Raises:
        ValueError: there are none or more than two, or one is not a secret: see signing_key.
    """
    found = secrets.split()
    if not 1 <= len(found) <= MOST_KEYS:
        raise ValueError(
            Text("should be one secret, or two with a space between; has {number}", number=len(found))
        )
    return tuple(signing_key(secret) for secret in found)


def signatures(keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature per key, separated by spaces.

    For the other arguments see signature.
    """
    return " ".join(signature(key, message_id=message_id, timestamp=timestamp, body=body) for key in keys)


def signature(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one signature, as it is written in the header `webhook-signature`.

    Args:
        key: see signing_key.
        message_id: the header `webhook-id`.
        timestamp: the header `webhook-timestamp`, seconds since 1970.
        body: the bytes that are sent.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
