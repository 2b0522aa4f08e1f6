"""The routes: /metrics, /healthz, /livez, /readyz, the status page and, if enabled, the shop's webhooks."""

from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shop_poller.web.hooks import PATH, Hooks
from shop_poller.web.hosts import HostGuard
from shop_poller.web.shop_hooks import SHOP_PATH, ShopHooks

if TYPE_CHECKING:
    from shop_poller.web.fleet_page import FleetPage
    from shop_poller.web.shop_pages import ShopPages
    from shop_poller.web.status_page import StatusPage

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HealthSource(Protocol):
    """Reports health and metrics."""

    async def health(self) -> dict[str, str]:
        """Return the content of /healthz: `status` is healthy or unhealthy, with a `reason`."""
        ...

    async def readiness(self) -> dict[str, str]:
        """Return the content of /readyz: `status` is ready or not ready, with a `reason`."""
        ...

    async def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        ...


class FleetPages(Protocol):
    """The pages of several shops. They are made when they are first requested, since their code is large."""

    @property
    def has_tenants(self) -> bool:
        """Whether some readers may see some shops only."""
        ...

    @property
    def fleet_page(self) -> "FleetPage":
        """The overview of all shops."""
        ...

    @property
    def shop_pages(self) -> "ShopPages":
        """The pages of single shops."""
        ...


def make_app(
    health_reporter: HealthSource,
    hooks: Hooks | None = None,
    make_status_page: "Callable[[], StatusPage] | None" = None,
    *,
    signs_in: bool = False,
    actions_enabled: bool = False,
    hosts: Collection[str] = (),
    shop_hooks: ShopHooks | None = None,
    fleet_pages: FleetPages | None = None,
) -> Starlette:
    """Make the application.

    Args:
        health_reporter: reports health and metrics.
        hooks: receives webhooks; without it there is no such route.
        make_status_page: makes the status page; called at its first request, since its code is large.
        signs_in: whether readers can sign in; otherwise there are no such routes.
        actions_enabled: whether there are actions; likewise. It implies `signs_in`.
        hosts: accepted host names, in addition to addresses and localhost.
        shop_hooks: receives webhooks at paths with the id of a shop; without it there are no such routes.
        fleet_pages: the pages of several shops.
    """
    routes = _health_routes(health_reporter, fleet_pages)
    open_paths = {PATH, f"{PATH}/", *(route.path for route in routes)}
    if hooks is not None:
        routes.append(Route(PATH, hooks.receive, methods=["POST"]))
    if shop_hooks is not None:
        routes.append(Route(SHOP_PATH, shop_hooks.receive, methods=["POST"]))
    if make_status_page is not None:
        routes += _page_routes(
            "/", cache(make_status_page), signs_in=signs_in or actions_enabled, acts=actions_enabled
        )
    if fleet_pages is not None:
        routes += _fleet_routes(fleet_pages, signs_in=signs_in or actions_enabled, acts=actions_enabled)
    guard = Middleware(HostGuard, hosts=hosts, open_paths=open_paths)
    app = Starlette(routes=routes, middleware=[guard])
    app.router.redirect_slashes = False  # it would redirect to any Host that the client names
    return app


def _health_routes(health_reporter: HealthSource, fleet_pages: FleetPages | None) -> list[Route]:
    """Return the routes for programs that watch the daemon."""

    async def metrics(request: Request) -> Response:
        if fleet_pages is not None and fleet_pages.has_tenants:
            refusal = fleet_pages.fleet_page.refuse_metrics(request)
            if refusal is not None:
                return refusal
        return Response(await health_reporter.exposition(), media_type=METRICS_TYPE)

    async def healthz(_: Request) -> Response:
        health = await health_reporter.health()
        return JSONResponse(health, 200 if health["status"] == "healthy" else 503)

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        readiness = await health_reporter.readiness()
        return JSONResponse(readiness, 200 if readiness["status"] == "ready" else 503)

    return [
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/livez", livez),
        Route("/readyz", readyz),
    ]


def _fleet_routes(fleet_pages: FleetPages, *, signs_in: bool, acts: bool) -> list[Route]:
    async def redirect(request: Request) -> Response:
        return await fleet_pages.shop_pages.redirect(request)

    return [
        *_page_routes("/", lambda: fleet_pages.fleet_page, signs_in=signs_in, acts=acts),
        Route("/shops/{shop}", redirect),
        *_page_routes("/shops/{shop}/", lambda: fleet_pages.shop_pages, signs_in=signs_in, acts=acts),
    ]


def _page_routes(
    path: str, page: "Callable[[], StatusPage | FleetPage | ShopPages]", *, signs_in: bool, acts: bool
) -> list[Route]:
    """Return the routes of one kind of page.

    Args:
        path: of the page; ends with a slash.
        page: returns what handles the requests.
        signs_in: whether readers can sign in.
        acts: whether there are actions.
    """

    async def show(request: Request) -> Response:
        return await page().page(request)

    async def sign_in(request: Request) -> Response:
        return await page().sign_in(request)

    async def sign_out(request: Request) -> Response:
        return await page().sign_out(request)

    async def act(request: Request) -> Response:
        return await page().act(request)

    routes = [Route(path, show)]
    if signs_in:
        routes += [
            Route(f"{path}sign-in", sign_in, methods=["GET", "POST"]),
            Route(f"{path}sign-out", sign_out, methods=["POST"]),
        ]
    if acts:
        routes.append(Route(f"{path}actions/{{action}}", act, methods=["POST"]))
    return routes
