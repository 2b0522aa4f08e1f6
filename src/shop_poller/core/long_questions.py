"""Requests that exclude so many orders that a server on the way rejects them.

WooCommerce repeats the request in its `Link` header. On a stock nginx (`fastcgi_buffer_size` 4 KB), a list of
150 excluded ids leads to a 502. A firewall may reject a long address or body with 400, 403, 413 or 414. A
host that allows only GET rejects the POST that long requests use. In these cases, the same request is sent
with fewer ids, and the orders seen before are removed from the response here.
"""

from dataclasses import replace

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.core.translatable import Text

FEW_IDS = 40
"""How many ids a shortened request excludes: less than a kilobyte in an address or a `Link` header."""


def is_long(query: Query) -> bool:
    """Return whether a request excludes more orders than a shortened one."""
    return len(query.exclude) > FEW_IDS


def can_shorten(query: Query) -> bool:
    """Return whether a page has room for the orders that are no longer excluded, and for a new one."""
    has_room = len(query.exclude) - FEW_IDS < MAX_PER_PAGE
    return is_long(query) and has_room and query.page == 1  # page numbers are of pages of one size


def shortened(query: Query) -> Query:
    """Return the same request with fewer excluded orders, and a page that has room for the others."""
    per_page = min(MAX_PER_PAGE, len(query.exclude) - FEW_IDS + query.per_page)
    return replace(query, exclude=frozenset(sorted(query.exclude)[:FEW_IDS]), per_page=per_page)


def only_new(page: Page, query: Query) -> tuple[Page, bool]:
    """Return what is new in the response to a shortened request.

    Args:
        page: the response.
        query: the request before it was shortened.

    Returns:
        The page without the orders that the full request excludes, and whether it has all that match.

    Raises:
        TemporaryError: PROTOCOL, nothing is new, and the shop does not report that this is all.
    """
    items = tuple(item for item in page.items if item.id not in query.exclude)
    is_whole = not page.items or page.total_pages == 1
    if is_whole:
        return replace(page, items=items, total=len(items), total_pages=min(1, len(items))), True
    if not items:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "the shop rejects a request that excludes {number} orders, and a shorter request "
                "finds no others; configure its server to accept POST requests and response headers "
                "of 8 KB (nginx: fastcgi_buffer_size)",
                number=len(query.exclude),
            ),
        )
    return replace(page, items=items, total=None, total_pages=None), False
