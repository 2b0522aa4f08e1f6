"""Where the state of each of several shops lies in Redis, beside that of a shop that is the only one."""

import re

HASH_TAG = re.compile(r"\{([^{}]+)\}")


def apart(prefix: str, shop_id: str) -> str:
    """The prefix of one shop's keys in Redis, of which no other shop's is the beginning.

    On a Cluster each shop gets a hash tag, and with it a slot, of its own: they spread over the nodes.

    Args:
        prefix: of all keys.
        shop_id: has neither colon nor braces in it.
    """
    if HASH_TAG.search(prefix):
        return HASH_TAG.sub(rf"{{\1:{shop_id}}}", prefix, count=1)
    return f"{prefix}shops:{shop_id}:"
