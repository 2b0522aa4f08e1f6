"""Where the state of each of several shops lies, beside that of a shop that is the only one."""

import re
from pathlib import Path

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


def file_apart(path: Path, shop_id: str) -> Path:
    """The file of one shop: in a directory beside the one that an only shop would have.

    Args:
        path: of an only shop, e.g. state/shop-poller.db.
        shop_id: can be part of a file's name.
    """
    return path.with_name(f"{path.name}.shops") / f"{shop_id}.db"
