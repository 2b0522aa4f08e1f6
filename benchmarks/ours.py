"""This side: the daemon as it is installed, in both of its environments."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import ENVIRONMENTS, Process, Served, running, wait_until

SHOP = "shop.example"
SINK = "receiver"
KEY = "ck_" + "0" * 40
SECRET = "cs_" + "0" * 40


def settings(shop: Served, *, state: str, sink: str, **more: str) -> dict[str, str]:
    """The daemon's settings; what is not named here is left at its default."""
    return {
        "WOOCOMMERCE_MCP_URL": f"{shop.url}/wp-json/woocommerce/mcp",
        "WOOCOMMERCE_CONSUMER_KEY": KEY,
        "WOOCOMMERCE_CONSUMER_SECRET": SECRET,
        "SHOP_ID": SHOP,
        "SHOP_STATE_URL": state,
        "SHOP_NOTIFY_URLS": f"{sink}#{SINK}",
        "SHOP_HTTP_LISTEN": "127.0.0.1:0",
        **more,
    }


@contextmanager
def daemon(of: str, env: dict[str, str], *, home: Path) -> Iterator[Process]:
    """`shop-poller run`, until the block ends."""
    with running(
        f"ours-{of}", [ENVIRONMENTS / of / "bin" / "shop-poller", "run"], home=home, env=env
    ) as process:
        yield process


def wait_logged(process: Process, words: str) -> None:
    """Wait until the daemon has logged something."""

    def logged() -> bool:
        process.check()
        return words in process.log.read_text(encoding="utf-8")

    wait_until(logged, f"{process.name} logging {words!r}")
