"""Reads the tags of a shop: words by which commands and the page choose some of many shops."""

import re

from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text

MOST = 10
TAG = re.compile(r"\w[\w.-]{0,29}")


def parse(value: object) -> tuple[str, ...]:
    """Return the tags of a shop, each once, in the order of the file.

    Args:
        value: as it stands in the table.

    Raises:
        ValueError: one line, what is wrong and what to do.
    """
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ValueError(Text('should be a list such as ["premium", "berlin"]'))
    if len(value) > MOST:
        raise ValueError(Text("has {count} tags; {most} at most", count=len(value), most=MOST))
    for tag in value:
        if not TAG.fullmatch(tag):
            raise ValueError(
                Text(
                    "a tag should be up to 30 letters, digits, dots, dashes or underscores (now: {tag})",
                    tag=shown(tag, is_name=True),
                )
            )
    return tuple(dict.fromkeys(value))
