"""WooCommerce's webhooks: makes what the shop would send about an order."""

from base64 import b64encode
from hashlib import sha256
from hmac import digest
from typing import Literal, TypeAlias

from shop_poller.simulator.answers import php_json
from shop_poller.simulator.rendering import WOOCOMMERCE_VERSION, order_json
from shop_poller.simulator.shop import SimulatedShop

Topic: TypeAlias = Literal["order.created", "order.updated", "order.deleted", "order.restored"]

_CLIENT = {
    "User-Agent": f"WooCommerce/{WOOCOMMERCE_VERSION} Hookshot (WordPress/6.9.1)",
    "Accept": "*/*",
    "Accept-Encoding": "deflate, gzip, br, zstd",
}


def ping(webhook_id: int) -> tuple[dict[str, str], bytes]:
    """Make the first POST to a new webhook's address: a form with the webhook's id, without a signature.

    Returns:
        The headers, without Host, Connection and Content-Length, and the body.
    """
    headers = {**_CLIENT, "Content-Type": "application/x-www-form-urlencoded"}
    return headers, f"webhook_id={webhook_id}".encode()


def delivery(
    shop: SimulatedShop, order_id: int, topic: Topic, secret: str, *, webhook_id: int = 1
) -> tuple[dict[str, str], bytes]:
    """Make one POST about an order: its present JSON, signed.

    Args:
        shop: The shop.
        order_id: The order; a deleted one need not exist any more.
        topic: What happened.
        secret: The webhook's secret.
        webhook_id: The webhook's id; a shop has one webhook per topic.

    Returns:
        The headers, without Host, Connection and Content-Length, and the body.

    Raises:
        NoSuchOrderError: There is no such order, and it was not deleted.
    """
    data: object = {"id": order_id}
    if topic != "order.deleted":
        data = order_json(shop.order(order_id), shop.face, links=True)
    body = php_json(data).encode()
    resource, event = topic.split(".")
    # Made up, but the same for the same delivery: nothing depends on a clock or on random numbers.
    delivery_id = sha256(f"{webhook_id} {topic} ".encode() + body).hexdigest()[:32]
    headers = {
        **_CLIENT,
        "Content-Type": "application/json",
        "X-WC-Webhook-Source": f"{shop.url}/",
        "X-WC-Webhook-Topic": topic,
        "X-WC-Webhook-Resource": resource,
        "X-WC-Webhook-Event": event,
        "X-WC-Webhook-Signature": b64encode(digest(secret.encode(), body, "sha256")).decode(),
        "X-WC-Webhook-ID": str(webhook_id),
        "X-WC-Webhook-Delivery-ID": delivery_id,
    }
    return headers, body
