"""WooCommerce's webhooks: what the shop would send about an order, without sending it."""

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
    """The first POST to a new hook's address: a form with the hook's id, and no signature.

    Returns:
        The headers, without Host, Connection and Content-Length, and the body.
    """
    headers = {**_CLIENT, "Content-Type": "application/x-www-form-urlencoded"}
    return headers, f"webhook_id={webhook_id}".encode()


def delivery(
    shop: SimulatedShop, order_id: int, topic: Topic, secret: str, *, webhook_id: int = 1
) -> tuple[dict[str, str], bytes]:
    """One POST about an order: its JSON as of now, signed.

    Args:
        shop: The shop.
        order_id: The order; one that is deleted need not be there any more.
        topic: What happened.
        secret: The hook's secret.
        webhook_id: The hook's id; a shop has a hook for each topic.

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
    # Made up, but the same for the same delivery: nothing here is left to chance or to a clock.
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
