"""Questions that leave out so many orders that a server on the way refuses them.

WooCommerce repeats the question in its `Link` header: on a stock nginx (`fastcgi_buffer_size` 4 KB) a list of
150 excluded ids is a 502. A firewall may refuse a long address or body with 400, 403, 413 or 414, and a host
that allows nothing but GET refuses the POST that long questions are sent as. Then the same is asked with
fewer ids, and what was seen before is taken out of the answer here.
"""

from dataclasses import replace

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query

FEW_IDS = 40
"""So many are left out of a shortened question: less than a kilobyte in an address or a `Link` header."""


def is_long(query: Query) -> bool:
    """Whether a question leaves out more orders than a shortened one."""
    return len(query.exclude) > FEW_IDS


def can_shorten(query: Query) -> bool:
    """Whether a page has room for what is not left out any more, and for something new."""
    has_room = len(query.exclude) - FEW_IDS < MAX_PER_PAGE
    return is_long(query) and has_room and query.page == 1  # page numbers are of pages of one size


def shortened(query: Query) -> Query:
    """The same question with fewer orders left out, and a page that has room for the others."""
    per_page = min(MAX_PER_PAGE, len(query.exclude) - FEW_IDS + query.per_page)
    return replace(query, exclude=frozenset(sorted(query.exclude)[:FEW_IDS]), per_page=per_page)


def only_new(page: Page, query: Query) -> tuple[Page, bool]:
    """What is new in the answer to a shortened question.

    Args:
        page: the answer.
        query: the question before it was shortened.

    Returns:
        The page without the orders that the question left out, and whether it is all that matches.

    Raises:
        TemporaryError: PROTOCOL, nothing is new, and the shop does not say that this is all.
    """
    items = tuple(item for item in page.items if item.id not in query.exclude)
    is_whole = not page.items or page.total_pages == 1
    if is_whole:
        return replace(page, items=items, total=len(items), total_pages=min(1, len(items))), True
    if not items:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            f"the shop refuses a question that leaves out {len(query.exclude)} orders, and shows no"
            " others without that; let the server before it accept POST requests and response headers of"
            " 8 KB (nginx: fastcgi_buffer_size)",
        )
    return replace(page, items=items, total=None, total_pages=None), False
