"""An order as WooCommerce's JSON."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal

from shop_poller.simulator.goods import LineItem
from shop_poller.simulator.orders import JsonObject, SimulatedOrder

WOOCOMMERCE_VERSION = "10.5.0"
_EDITABLE = ("pending", "on-hold", "auto-draft")
_AWAITS_PAYMENT = ("pending", "failed", "checkout-draft")
_COSTLY = {
    "meta_data",
    "line_items",
    "tax_lines",
    "shipping_lines",
    "fee_lines",
    "coupon_lines",
    "refunds",
    "payment_url",
    "is_editable",
    "needs_payment",
    "needs_processing",
}
_AMOUNTS = {
    "discount_total",
    "discount_tax",
    "shipping_total",
    "shipping_tax",
    "cart_tax",
    "total",
    "total_tax",
}
_DATES = {"date_created", "date_modified", "date_completed", "date_paid"}


@dataclass(frozen=True)
class ShopFace:
    """The shop's data in an order's JSON: its address, time zone and currency."""

    url: str
    zone: tzinfo
    currency: str
    currency_symbol: str
    plain_permalinks: bool = False

    def rest(self, path: str) -> str:
        """The address of a REST path such as `/wc/v3/orders`."""
        return f"{self.url}{'/index.php?rest_route=' if self.plain_permalinks else '/wp-json'}{path}"

    def payment(self, order_id: int, order_key: str) -> str:
        """Where the buyer pays the order."""
        page = (
            f"?page_id=7&order-pay={order_id}&"
            if self.plain_permalinks
            else f"checkout/order-pay/{order_id}/?"
        )
        return f"{self.url}/{page}pay_for_order=true&key={order_key}"


def order_json(order: SimulatedOrder, face: ShopFace, *, links: bool) -> object:
    """Show an order as the REST controller does.

    Args:
        order: The order.
        face: The shop's address, zone and currency.
        links: Whether `_links` is included: in a listing, but not in a single order.

    Returns:
        The order's JSON object, or the result of the order's distortion.
    """
    data = {**_head(order, face), **_checkout(order, face), **_rows(order), **_state(order, face)}
    if links:
        data["_links"] = _links(order, face)
    return data if order.distortion is None else order.distortion(data)


def money(amount: Decimal) -> str:
    """Write an amount as WooCommerce does: a string with two decimals."""
    return f"{amount:.2f}"


def unpadded(amount: object) -> object:
    """Return an amount as the database has it: 646.5, where the REST API returns 646.50."""
    if isinstance(amount, str) and "." in amount:
        return amount.rstrip("0").rstrip(".")
    return amount


def with_fields(order: object, fields: Collection[str], face: ShopFace) -> object:
    """Return an order as `woocommerce-orders-list` shows it if `_fields` is among its arguments.

    The controller omits costly fields that were not requested, and does not format the others. A date
    that was not requested is PHP's own object *(read)*. Only the REST server itself omits all other fields,
    and a tool's response does not pass through it.

    Args:
        order: The order's JSON.
        fields: The requested names; for a dotted name, its first part counts.
        face: The shop's data.
    """
    if not isinstance(order, dict):
        return order
    requested = {name.partition(".")[0] for name in fields}
    shown = {name: value for name, value in order.items() if name not in _COSTLY or name in requested}
    for name in _AMOUNTS & shown.keys() - requested:
        shown[name] = unpadded(shown[name])
    for name in _DATES & shown.keys():
        if name not in requested and f"{name}_gmt" not in requested:
            shown.pop(f"{name}_gmt", None)
            shown[name] = _php_date(shown[name], face.zone)
    return shown


def _php_date(local: object, zone: tzinfo) -> object:
    if not isinstance(local, str):
        return local
    return {"date": f"{local.replace('T', ' ')}.000000", "timezone_type": 3, "timezone": str(zone)}


def _head(order: SimulatedOrder, face: ShopFace) -> JsonObject:
    return {
        "id": order.id,
        "parent_id": 0,
        "status": order.status,
        "currency": face.currency,
        "version": WOOCOMMERCE_VERSION,
        "prices_include_tax": False,
        "date_created": _local(order.created, face.zone),
        "date_modified": _local(order.modified, face.zone),
        "discount_total": "0.00",
        "discount_tax": "0.00",
        "shipping_total": money(order.shipping),
        "shipping_tax": "0.00",
        "cart_tax": "0.00",
        "total": money(order.total),
        "total_tax": "0.00",
        "customer_id": 0,
        "order_key": order.order_key,
    }


def _checkout(order: SimulatedOrder, face: ShopFace) -> JsonObject:
    customer = order.customer
    address = {
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "company": "",
        "address_1": customer.address_1,
        "address_2": "",
        "city": customer.city,
        "state": "",
        "postcode": customer.postcode,
        "country": "RU",
    }
    return {
        "billing": {**address, "email": customer.email, "phone": customer.phone},
        "shipping": {**address, "phone": customer.phone},
        "payment_method": order.payment.code,
        "payment_method_title": order.payment.title,
        "transaction_id": "",
        "customer_ip_address": "127.0.0.1",
        "customer_user_agent": "",
        "created_via": "",
        "customer_note": order.customer_note,
        "date_completed": _local(order.completed, face.zone),
        "date_paid": _local(order.paid, face.zone),
        "cart_hash": "",
        "number": str(order.id),
    }


def _rows(order: SimulatedOrder) -> JsonObject:
    shipping = []
    if order.shipping:
        shipping.append(
            {
                "id": order.line_ids[-1],
                "method_title": "СДЭК до пункта выдачи",
                "method_id": "flat_rate",
                "instance_id": "",
                "total": money(order.shipping),
                "total_tax": "0.00",
                "taxes": [],
                "tax_status": "taxable",
                "meta_data": [],
            }
        )
    # Real shops list meta data by key: rows of the trash are between the older ones.
    meta = sorted(order.meta, key=lambda row: row.key)
    lines = zip(order.line_ids, order.lines, strict=False)
    return {
        "meta_data": [{"id": row.id, "key": row.key, "value": row.value} for row in meta],
        "line_items": [_line(row_id, line) for row_id, line in lines],
        "tax_lines": [],
        "shipping_lines": shipping,
        "fee_lines": [],
        "coupon_lines": [],
        "refunds": [
            {"id": refund.id, "reason": refund.reason, "total": money(-refund.amount)}
            for refund in order.refunds
        ],
    }


def _line(row_id: int, line: LineItem) -> JsonObject:
    price = line.product.price
    return {
        "id": row_id,
        "name": line.product.name,
        "product_id": line.product.id,
        "variation_id": 0,
        "quantity": line.quantity,
        "tax_class": "",
        "subtotal": money(line.total),
        "subtotal_tax": "0.00",
        "total": money(line.total),
        "total_tax": "0.00",
        "taxes": [],
        "meta_data": [],
        "sku": line.product.sku,
        "global_unique_id": "",
        # The only amount that is a number: PHP writes a whole number without a point.
        "price": int(price) if price == int(price) else float(price),
        "image": {"id": "", "src": ""},
        "parent_name": None,
    }


def _state(order: SimulatedOrder, face: ShopFace) -> JsonObject:
    return {
        "payment_url": face.payment(order.id, order.order_key),
        "is_editable": order.status in _EDITABLE,
        "needs_payment": order.status in _AWAITS_PAYMENT and order.total > 0,
        "needs_processing": bool(order.lines),
        "date_created_gmt": _gmt(order.created),
        "date_modified_gmt": _gmt(order.modified),
        "date_completed_gmt": _gmt(order.completed),
        "date_paid_gmt": _gmt(order.paid),
        "currency_symbol": face.currency_symbol,
    }


def _links(order: SimulatedOrder, face: ShopFace) -> JsonObject:
    orders = face.rest("/wc/v3/orders")
    return {
        "self": [
            {
                "href": f"{orders}/{order.id}",
                "targetHints": {"allow": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
            }
        ],
        "collection": [{"href": orders}],
        "email_templates": [{"embeddable": True, "href": f"{orders}/{order.id}/actions/email_templates"}],
    }


def _local(at: datetime | None, zone: tzinfo) -> str | None:
    return None if at is None else at.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")


def _gmt(at: datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S")
