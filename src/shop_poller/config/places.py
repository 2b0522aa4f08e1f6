"""The place of each shop's state in Redis, if there are several shops."""

import re

HASH_TAG = re.compile(r"\{([^{}]+)\}")


def apart(prefix: str, shop_id: str) -> str:
    """Return the prefix of one shop's keys in Redis; no other shop's prefix begins with it.

    On a Cluster each shop gets its own hash tag, and so its own slot: the shops spread over the nodes.

    Args:
        prefix: the prefix of all keys.
        shop_id: without colons and braces.
    """
    if HASH_TAG.search(prefix):
        return HASH_TAG.sub(rf"{{\1:{shop_id}}}", prefix, count=1)
    return f"{prefix}shops:{shop_id}:"
