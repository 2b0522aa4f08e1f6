"""Everything specific to WooCommerce: one module per dialect, statuses, webhooks, credentials."""

from shop_poller.ports import RefundList, Source
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys, endpoint, refunds_url
from shop_poller.sources.woocommerce.execute import Execute
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY, OrderFields
from shop_poller.sources.woocommerce.refunds import RestRefunds
from shop_poller.sources.woocommerce.rest import Rest
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp


def open_source(
    dialect: Dialect, url: str, credentials: KnownKeys, fields: OrderFields = FIRST_NAME_ONLY
) -> Source:
    """Return the source for one dialect.

    Args:
        dialect: the dialect.
        url: WOOCOMMERCE_MCP_URL; may name any dialect.
        credentials: contain the kind that the dialect needs.
        fields: what to request of an order, if the dialect can choose.
    """
    where = endpoint(url, dialect)
    key, secret, other_secrets = (
        credentials.consumer_key,
        credentials.consumer_secret,
        credentials.other_secrets,
    )
    match dialect:
        case Dialect.WOOCOMMERCE_MCP:
            return WooCommerceMcp(
                where, consumer_key=key, consumer_secret=secret, other_secrets=other_secrets, fields=fields
            )
        case Dialect.ABILITIES:
            return Abilities(
                where,
                username=credentials.username,
                password=credentials.password,
                other_secrets=other_secrets,
            )
        case Dialect.REST:
            return Rest(
                where, consumer_key=key, consumer_secret=secret, other_secrets=other_secrets, fields=fields
            )
        case Dialect.EXECUTE:
            return Execute(
                where, consumer_key=key, consumer_secret=secret, other_secrets=other_secrets, fields=fields
            )


def open_refunds(url: str, credentials: KnownKeys) -> RefundList | None:
    """Return the shop's own list of refunds, see core/refunds.py; None if its address is not known.

    Args:
        url: WOOCOMMERCE_MCP_URL; may name any dialect.
        credentials: a consumer key.
    """
    where = refunds_url(endpoint(url, Dialect.REST))
    if where is None:
        return None
    key, secret = credentials.consumer_key, credentials.consumer_secret
    return RestRefunds(
        where, consumer_key=key, consumer_secret=secret, other_secrets=credentials.other_secrets
    )
