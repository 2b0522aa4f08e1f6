"""The shop's own list of refunds, as far as there is one: …/wp-json/wc/v3/refunds, WooCommerce 9.0 and later.

Its parameters are those of every list of WooCommerce's REST API (WC_REST_Refunds_Controller, read in its
source, not seen running). The rows are read leniently: nothing but the ids and the date is used.
"""

from collections.abc import Mapping, Sequence

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.refunds import RefundPage, RefundQuery, RefundRow
from shop_poller.sources.woocommerce.answers import count, read_json
from shop_poller.sources.woocommerce.listing import naive_utc
from shop_poller.sources.woocommerce.rest_endpoint import RestEndpoint
from shop_poller.sources.woocommerce.values import instant, order_id, whole_number

FIELDS = "id,parent_id,date_created_gmt"
MAX_ROWS = 10_000
"""Rows of an answer that are read, should a shop ignore the size of a page."""


class RestRefunds:
    """Lists refunds. For the methods see ports.RefundList.

    Args:
        url: the endpoint; may have a query (plain permalinks).
        consumer_key: of WooCommerce's REST API, e.g. ck_….
        consumer_secret: likewise, cs_….
        also: other secrets that the shop knows.
    """

    def __init__(
        self, url: str, *, consumer_key: str, consumer_secret: str, also: Sequence[str] = ()
    ) -> None:
        self._endpoint = RestEndpoint(
            url, consumer_key=consumer_key, consumer_secret=consumer_secret, also=also
        )

    async def fetch(self, query: RefundQuery) -> RefundPage:
        """Ask once."""
        requested: dict[str, object] = {
            "per_page": query.per_page,
            "orderby": "date",
            "order": "asc",
            "dates_are_gmt": True,
            "after": naive_utc(query.after),
            "_fields": FIELDS,
        }
        if query.exclude:
            requested["exclude"] = sorted(query.exclude)
        fits = self._endpoint.fits_in_address(requested, ids=len(query.exclude))
        response, body = await (self._endpoint.get(requested) if fits else self._endpoint.post(requested))
        return RefundPage(
            rows=_rows(response.status_code, response.headers, body),
            total=count(response.headers.get("x-wp-total")),
            total_pages=count(response.headers.get("x-wp-totalpages")),
        )

    async def aclose(self) -> None:
        """Close the connection; the next question opens another."""
        await self._endpoint.aclose()


def _rows(status: int, headers: Mapping[str, str], body: bytes) -> list[RefundRow]:
    """The rows of an answer.

    Raises:
        TemporaryError, PermanentError: it is no list of refunds.
    """
    listed, _ = read_json(list, status, headers, body)
    rows = [row for row in map(_row, listed[:MAX_ROWS]) if row is not None]
    if listed and not rows:
        raise TemporaryError(ErrorKind.PROTOCOL, "the shop's list of refunds has no refund in it")
    return rows


def _row(item: object) -> RefundRow | None:
    """One row; None if it does not say which refund of which order it is."""
    if not isinstance(item, Mapping):
        return None
    refund_id, parent_id = order_id(item), whole_number(item.get("parent_id"))
    if refund_id is None or parent_id is None:
        return None
    return RefundRow(refund_id, parent_id, instant(item.get("date_created_gmt")))
