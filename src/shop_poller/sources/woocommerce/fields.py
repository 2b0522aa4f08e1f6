"""Which fields of an order are requested: those in use, and of the buyer what the owner names.

Source: the properties of an order in WooCommerce's REST API (wc/v3/orders).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shop_poller.core.model import BuyerField, Query

ALWAYS = (
    *("id", "status", "number", "total", "currency", "currency_symbol", "billing.first_name"),
    *("date_created_gmt", "date_modified_gmt", "date_paid_gmt", "refunds"),
    *("date_created", "date_modified", "payment_method", "payment_method_title"),
)
WITH_ITEMS = ("line_items", "shipping_lines")
"""Each costs the shop queries per order. WordPress cannot send parts of a list, so all of it is requested."""
UNUSED = "order_key"
"""A field that is never requested: a response with it ignored the list of fields."""

ADDRESS = ("address_1", "address_2", "city", "state", "postcode", "country")
BUYER_FIELDS: Mapping[BuyerField, tuple[str, ...]] = {
    BuyerField.LAST_NAME: ("billing.last_name",),
    BuyerField.PHONE: ("billing.phone",),
    BuyerField.EMAIL: ("billing.email",),
    BuyerField.ADDRESS: tuple(f"{side}.{part}" for side in ("shipping", "billing") for part in ADDRESS),
    BuyerField.NOTE: ("customer_note",),
}
"""What is requested for each."""


@dataclass(frozen=True, slots=True)
class OrderFields:
    """What to read of an order.

    Attributes:
        buyer: what to read about the buyer besides the first name.
    """

    buyer: Collection[BuyerField] = ()

    def names(self, query: Query) -> str:
        """Return the value of the parameter `_fields` for a query."""
        buyer = (name for field in BuyerField if field in self.buyer for name in BUYER_FIELDS[field])
        return ",".join((*ALWAYS, *(WITH_ITEMS if query.with_items else ()), *buyer))


FIRST_NAME_ONLY = OrderFields()
