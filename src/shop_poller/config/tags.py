"""The tags of a shop, by which the overview of several shops is filtered."""

import re
from collections.abc import Mapping
from typing import Any

from shop_poller.core.translatable import Text

TAGS = "tags"
"""The key in the shop's table."""
TAG = re.compile(r"\w[\w.-]{0,31}")
MOST_TAGS = 10


def problems_of_tags(value: object) -> list[str]:
    """Return the problems of a table's tags."""
    tags: list[object] = value if isinstance(value, list) else [value]
    is_list = isinstance(value, list) and len(tags) <= MOST_TAGS
    if is_list and all(isinstance(tag, str) and TAG.fullmatch(tag) for tag in tags):
        return []
    return [
        Text(
            'tags: should be a list of up to {most} words, such as ["eu", "wholesale"]',
            most=MOST_TAGS,
        )
    ]


def tags_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tags of a table, each once; none if they have problems."""
    tags = table.get(TAGS, [])
    return () if problems_of_tags(tags) else tuple(dict.fromkeys(tags))
