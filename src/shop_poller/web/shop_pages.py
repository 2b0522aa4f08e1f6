"""The pages and actions of single shops, where a process has several."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shop_poller.web.admin_auth import AdminAuth
from shop_poller.web.fleet_snapshot import FleetBackend
from shop_poller.web.sign_in import HEADERS, SignIn
from shop_poller.web.snapshot import ActionResult, PageBackend, StatusSnapshot
from shop_poller.web.status_page import StatusPage

MOST_PAGES = 200
"""How many pages are kept; each has one shop's data of the last second."""
ONLY_HERE = frozenset({"poll", "mute", "unmute"})
"""Actions that only the replica which watches the shop can carry out."""


class ShopPages:
    """Passes each request to the page of its shop.

    Args:
        backend: provides the data and the actions of all shops.
        admin_auth: decides who may read and act; one for all shops, so that wrong tokens are counted
            together.
    """

    def __init__(self, backend: FleetBackend, *, admin_auth: AdminAuth | None) -> None:
        self._backend = backend
        self._admin_auth = admin_auth
        self._pages: dict[str, tuple[PageBackend, StatusPage]] = {}

    async def redirect(self, request: Request) -> Response:
        """Handle GET /shops/…: add the slash that the page's links need, also to the id of no shop."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{request.path_params['shop']}/{query}", 303, HEADERS)

    async def page(self, request: Request) -> Response:
        """Handle GET /shops/…/; see StatusPage.page."""
        shop = request.path_params["shop"]
        if shop in self._backend.shops:
            return await (await self._page_of(request)).page(request)
        # The same answer as for a shop that the reader may not see.
        return SignIn(
            self._admin_auth, title=shop, shop=shop, locale=self._backend.locale(shop), home="../../"
        ).missing(request)

    async def sign_in(self, request: Request) -> Response:
        """Handle GET and POST /shops/…/sign-in."""
        return await (await self._page_of(request)).sign_in(request)

    async def sign_out(self, request: Request) -> Response:
        """Handle POST /shops/…/sign-out."""
        return await (await self._page_of(request)).sign_out(request)

    async def act(self, request: Request) -> Response:
        """Handle POST /shops/…/actions/…; see StatusPage.act."""
        shop, action = request.path_params["shop"], request.path_params["action"]
        if shop in self._backend.shops and action in ONLY_HERE and not self._backend.is_here(shop):
            page = self._absent(shop, ActionResult.NOT_HERE)
        else:
            page = await self._page_of(request)
        return await page.act(request)

    async def _page_of(self, request: Request) -> StatusPage:
        shop = request.path_params["shop"]
        if shop not in self._backend.shops:
            return self._absent(shop, ActionResult.NO_SHOP)
        backend = await self._backend.backend(shop)
        kept = self._pages.get(shop)
        if kept is None or kept[0] is not backend:
            if len(self._pages) >= MOST_PAGES:
                del self._pages[next(iter(self._pages))]
            page = StatusPage(
                backend,
                shop=shop,
                locale=self._backend.locale(shop),
                admin_auth=self._admin_auth,
                home="../../",
            )
            kept = self._pages[shop] = backend, page
        return kept[1]

    def _absent(self, shop: str, result: ActionResult) -> StatusPage:
        return StatusPage(
            AbsentShop(result), shop=shop, locale="en", admin_auth=self._admin_auth, home="../../"
        )


class AbsentShop:
    """Stands for a shop of which nothing can be shown or done. It is a PageBackend.

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
