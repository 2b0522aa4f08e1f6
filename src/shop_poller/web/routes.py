"""/metrics, /healthz, /livez and /readyz; and what the shop sends by itself, if that is wanted."""

from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shop_poller.web.hooks import PATH, Hooks

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Vitals(Protocol):
    """What can be asked about how it goes."""

    async def health(self) -> dict[str, str]:
        """What /healthz says; `status` is healthy or unhealthy, with a `reason`."""
        ...

    async def readiness(self) -> dict[str, str]:
        """What /readyz says; `status` is ready or not ready, with a `reason`."""
        ...

    async def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        ...


def make_app(vitals: Vitals, hooks: Hooks | None = None) -> Starlette:
    """The routes.

    Args:
        vitals: are asked.
        hooks: take webhooks; without them there is no such route.
    """

    async def metrics(_: Request) -> Response:
        return Response(await vitals.exposition(), media_type=METRICS_TYPE)

    async def healthz(_: Request) -> Response:
        health = await vitals.health()
        return JSONResponse(health, 200 if health["status"] == "healthy" else 503)

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        readiness = await vitals.readiness()
        return JSONResponse(readiness, 200 if readiness["status"] == "ready" else 503)

    routes = [
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/livez", livez),
        Route("/readyz", readyz),
    ]
    if hooks is not None:
        routes.append(Route(PATH, hooks.receive, methods=["POST"]))
    return Starlette(routes=routes)
