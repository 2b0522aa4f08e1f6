"""The actions of a daemon with several shops: for programs, one shop at a time. There is no status page."""

from collections.abc import Callable, Collection, Sequence

from starlette.requests import Request
from starlette.responses import Response

from shop_poller.web.admin_auth import AdminAuth
from shop_poller.web.snapshot import ActionResult, StatusSnapshot
from shop_poller.web.status_page import StatusPage


class ShopActions:
    """Passes each action to the page of its shop.

    Args:
        shops: the ids of all shops.
        admin_auth: decides who may act; one for all shops, so that wrong tokens are counted together.
        page_of: returns the page of a shop; None if this process does not watch the shop now.
    """

    def __init__(
        self, shops: Collection[str], admin_auth: AdminAuth, page_of: Callable[[str], StatusPage | None]
    ) -> None:
        self._shops = shops
        self._admin_auth = admin_auth
        self._page_of = page_of

    async def act(self, request: Request) -> Response:
        """Handle POST /shops/…/actions/…; see StatusPage.act."""
        shop = request.path_params["shop"]
        page = self._page_of(shop)
        if page is None:
            result = ActionResult.NOT_HERE if shop in self._shops else ActionResult.NO_SHOP
            page = StatusPage(AbsentShop(result), shop=shop, locale="en", admin_auth=self._admin_auth)
        return await page.act(request)


class AbsentShop:
    """Stands for a shop that this process does not watch: no action is done. It is a PageBackend.

    Args:
        result: why.
    """

    def __init__(self, result: ActionResult) -> None:
        self._result = result

    async def snapshot(self) -> StatusSnapshot:
        """Raise: there is no page."""
        raise NotImplementedError

    async def poll_now(self) -> ActionResult:
        """Do nothing."""
        return self._result

    async def mute(self, sink: str, for_s: float, events: Sequence[str] = ()) -> ActionResult:  # noqa: ARG002 - a PageBackend
        """Do nothing."""
        return self._result

    async def replay(self, seq: int) -> ActionResult:  # noqa: ARG002 - a PageBackend
        """Do nothing."""
        return self._result

    async def drop(self, seq: int) -> ActionResult:  # noqa: ARG002 - a PageBackend
        """Do nothing."""
        return self._result
