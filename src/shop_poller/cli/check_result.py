"""The result of one check, and what to do about an error."""

from collections.abc import Mapping
from dataclasses import dataclass

from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.translatable import Text

SHOP_ADVICE = {
    ErrorKind.CONNECTION: Text("check WOOCOMMERCE_MCP_URL, and whether this machine can reach the shop"),
    ErrorKind.TIMEOUT: Text("check whether the shop's own pages are slow too"),
    ErrorKind.RATE_LIMIT: Text("wait a few minutes; if it lasts, ask the operator of the shop's server"),
}
"""What to do about errors whose text has no advice, because a tick retries them."""

SINK_ADVICE = {
    ErrorKind.CONNECTION: Text("check its address in SHOP_NOTIFY_URLS, and whether it runs"),
    ErrorKind.TIMEOUT: Text("check whether it is overloaded or behind a firewall"),
    ErrorKind.RATE_LIMIT: Text("wait a few minutes; deliveries wait automatically"),
    ErrorKind.UNAVAILABLE: Text("check whether it works, and whether its address is right"),
    ErrorKind.SERVER: Text("check its log"),
    ErrorKind.REJECTED: Text("check its address in SHOP_NOTIFY_URLS, and its log"),
    ErrorKind.GONE: Text("remove it from SHOP_NOTIFY_URLS"),
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        part: settings, shop, state or sink; decides the exit code.
        about: what was checked.
        text: what was found, and what to do if it is a problem.
        ok: False if the daemon cannot work with this result.
    """

    part: str
    about: str
    text: str
    ok: bool = True

    def line(self) -> str:
        """Return the result for people, without its mark."""
        return Text("{about}: {text}", about=self.about, text=self.text)


def advised(error: ShopPollerError, advice: Mapping[ErrorKind, str]) -> str:
    """Return the text of an error, with advice for its kind unless it has its own."""
    if error.kind not in advice or (isinstance(error, TemporaryError) and error.has_advice):
        return error.text
    # A text that ends with a full stop ends with the words of the peer.
    problem = error.text.rstrip(".") if error.text.endswith(".") else error.text
    return Text("{problem}; {advice}", problem=problem, advice=advice[error.kind])
