"""POST /hooks/woocommerce/SHOP: webhooks of one of several shops, each with a secret of its own."""

import secrets
from collections.abc import Callable

import structlog
from starlette.requests import Request
from starlette.responses import Response
from structlog.contextvars import bound_contextvars

from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.web.hooks import PATH, Hooks, WebhookCounter

SHOP_PATH = f"{PATH}/{{shop:path}}"
"""An id has no slash. With one, it is answered as any other id that no shop has."""


class ShopHooks:
    """Passes each webhook to the receiver of its shop.

    A shop that is unknown, or has no secret, is answered as a wrong signature is: nobody can find out which
    shops there are.

    Args:
        hooks_of: returns the receiver of a shop; None if there is no such shop, or it has no secret.
        counter: counts webhooks for no shop.
    """

    def __init__(self, hooks_of: Callable[[str], Hooks | None], *, counter: WebhookCounter) -> None:
        self._hooks_of = hooks_of
        # Nobody can sign with a random secret. It makes these requests take as long as others.
        self._of_nobody = Hooks(secrets.token_hex(32), trigger=lambda: None, counter=counter)
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def receive(self, request: Request) -> Response:
        """Handle a request; see Hooks.receive."""
        shop = request.scope["path"].removeprefix(f"{PATH}/")  # the parameter has no line break at its end
        hooks = self._hooks_of(shop)
        if hooks is None:
            if self._changes.changed("unknown", "shop"):
                self._log.warning(
                    "a webhook names no shop that has a webhook secret; if it was a shop's, see docs/hints.md"
                )
            return await self._of_nobody.receive(request)
        with bound_contextvars(shop=shop):
            return await hooks.receive(request)
