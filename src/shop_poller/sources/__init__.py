"""What reads a shop: one file a dialect, and one that chooses among them."""

from shop_poller.core.dialects import Dialect, Proofs, endpoint
from shop_poller.ports import Source
from shop_poller.sources.abilities import Abilities
from shop_poller.sources.execute import Execute
from shop_poller.sources.rest import Rest
from shop_poller.sources.woocommerce_mcp import WooCommerceMcp


def open_source(dialect: Dialect, url: str, proofs: Proofs) -> Source:
    """The source for one dialect.

    Args:
        dialect: which.
        url: WOOCOMMERCE_MCP_URL, whatever dialect it names.
        proofs: of the kind that the dialect needs.
    """
    where = endpoint(url, dialect)
    keys = {"consumer_key": proofs.consumer_key, "consumer_secret": proofs.consumer_secret}
    match dialect:
        case Dialect.WOOCOMMERCE_MCP:
            return WooCommerceMcp(where, **keys)
        case Dialect.ABILITIES:
            return Abilities(where, username=proofs.username, password=proofs.password)
        case Dialect.REST:
            return Rest(where, **keys)
        case Dialect.EXECUTE:
            return Execute(where, **keys)
