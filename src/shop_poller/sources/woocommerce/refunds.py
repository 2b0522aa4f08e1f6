"""The shop's own list of refunds, if there is one: …/wp-json/wc/v3/refunds, WooCommerce 9.0 and later.

Its parameters are those of every list in WooCommerce's REST API. They are taken from the source code
(WC_REST_Refunds_Controller) and not tested on a real shop. The rows are read leniently: only the ids and the
date are used.
"""

from collections.abc import Mapping, Sequence

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.refunds import RefundPage, RefundQuery, RefundRow
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import count, read_json
from shop_poller.sources.woocommerce.listing import naive_utc
from shop_poller.sources.woocommerce.rest_endpoint import RestEndpoint
from shop_poller.sources.woocommerce.values import instant, order_id, whole_number

FIELDS = "id,parent_id,date_created_gmt"
MAX_ROWS = 10_000
"""Rows of an answer that are read, in case a shop ignores the page size."""


class RestRefunds:
    """Lists refunds. For the methods, see ports.RefundList.

    Args:
        url: the endpoint; may contain a query (plain permalinks).
        consumer_key: the key for WooCommerce's REST API, e.g. ck_….
        consumer_secret: its secret, e.g. cs_….
        other_secrets: other secrets that the shop knows and must not show.
    """

    def __init__(
        self, url: str, *, consumer_key: str, consumer_secret: str, other_secrets: Sequence[str] = ()
    ) -> None:
        self._endpoint = RestEndpoint(
            url, consumer_key=consumer_key, consumer_secret=consumer_secret, other_secrets=other_secrets
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
        """Close the connection. The next request opens a new one."""
        await self._endpoint.aclose()


def _rows(status: int, headers: Mapping[str, str], body: bytes) -> list[RefundRow]:
    """Return the rows of an answer.

    Raises:
        TemporaryError, PermanentError: the answer is not a list of refunds.
    """
    listed, _ = read_json(list, status, headers, body)
    rows = [row for row in map(_row, listed[:MAX_ROWS]) if row is not None]
    if listed and not rows:
        raise TemporaryError(ErrorKind.PROTOCOL, Text("the shop's list of refunds has no refund in it"))
    return rows


def _row(item: object) -> RefundRow | None:
    """Return one row; None if it lacks the id of the refund or the order."""
    if not isinstance(item, Mapping):
        return None
    refund_id, parent_id = order_id(item), whole_number(item.get("parent_id"))
    if refund_id is None or parent_id is None:
        return None
    return RefundRow(refund_id, parent_id, instant(item.get("date_created_gmt")))
