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
    from shop_poller.web.shop_actions import ShopActions
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


def make_app(
    health_reporter: HealthSource,
    hooks: Hooks | None = None,
    make_status_page: "Callable[[], StatusPage] | None" = None,
    *,
    actions_enabled: bool = False,
    hosts: Collection[str] = (),
    make_shop_actions: "Callable[[], ShopActions] | None" = None,
    shop_hooks: ShopHooks | None = None,
) -> Starlette:
    """Make the application.

    Args:
        health_reporter: reports health and metrics.
        hooks: receives webhooks; without it there is no such route.
        make_status_page: makes the status page; called at its first request, since its code is large.
        actions_enabled: whether there are actions; otherwise there are no such routes.
        hosts: accepted host names, in addition to addresses and localhost.
        make_shop_actions: makes the actions of several shops; called at the first of them.
        shop_hooks: receives webhooks at paths with the id of a shop; without it there are no such routes.
    """

    async def metrics(_: Request) -> Response:
        return Response(await health_reporter.exposition(), media_type=METRICS_TYPE)

    async def healthz(_: Request) -> Response:
        health = await health_reporter.health()
        return JSONResponse(health, 200 if health["status"] == "healthy" else 503)

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        readiness = await health_reporter.readiness()
        return JSONResponse(readiness, 200 if readiness["status"] == "ready" else 503)

    routes = [
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/livez", livez),
        Route("/readyz", readyz),
    ]
    open_paths = {PATH, f"{PATH}/", *(route.path for route in routes)}
    if hooks is not None:
        routes.append(Route(PATH, hooks.receive, methods=["POST"]))
    if shop_hooks is not None:
        routes.append(Route(SHOP_PATH, shop_hooks.receive, methods=["POST"]))
    if make_status_page is not None:
        routes += _status_page_routes(cache(make_status_page), actions_enabled=actions_enabled)
    if make_shop_actions is not None:
        shop_actions = cache(make_shop_actions)

        async def act_on_shop(request: Request) -> Response:
            return await shop_actions().act(request)

        routes.append(Route("/shops/{shop}/actions/{action}", act_on_shop, methods=["POST"]))
    guard = Middleware(HostGuard, hosts=hosts, open_paths=open_paths)
    app = Starlette(routes=routes, middleware=[guard])
    app.router.redirect_slashes = False  # it would redirect to any Host that the client names
    return app


def _status_page_routes(status_page: "Callable[[], StatusPage]", *, actions_enabled: bool) -> list[Route]:
    async def page(request: Request) -> Response:
        return await status_page().page(request)

    async def sign_in(request: Request) -> Response:
        return await status_page().sign_in(request)

    async def sign_out(request: Request) -> Response:
        return await status_page().sign_out(request)

    async def act(request: Request) -> Response:
        return await status_page().act(request)

    if not actions_enabled:
        return [Route("/", page)]
    return [
        Route("/", page),
        Route("/sign-in", sign_in, methods=["GET", "POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/actions/{action}", act, methods=["POST"]),
    ]
