"""POST /hooks/woocommerce: a webhook of the shop triggers a poll. Its content is neither parsed nor kept."""

from collections.abc import Callable
from typing import Protocol

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from shop_poller.core.webhooks import Verdict
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.sources.woocommerce.hooks import MAX_PING, SIGNATURE, TOPIC, WebhookVerifier

PATH = "/hooks/woocommerce"
MAX_BODY = 2**20
READ_S = 10.0

NOT_SIGNED = "there is no signature: set Secret in WooCommerce to the value of SHOP_WEBHOOK_SECRET"
DOES_NOT_FIT = "the signature is wrong: Secret in WooCommerce and SHOP_WEBHOOK_SECRET are not the same"


class WebhookCounter(Protocol):
    """Counts webhooks."""

    def webhook(self, outcome: Verdict, amount: int = 1) -> None:
        """Count received webhooks."""
        ...


class Hooks:
    """Receives the webhooks of one shop.

    Args:
        secret: the secret that the shop signs with.
        trigger: called for each genuine webhook about an order; returns at once.
        counter: counts them.
    """

    def __init__(self, secret: str, *, trigger: Callable[[], None], counter: WebhookCounter) -> None:
        self._secret = secret
        self._trigger = trigger
        self._counter = counter
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def receive(self, request: Request) -> Response:
        """Handle a request: 200; or 400, 401, 408 or 413 with a line that names the reason."""
        signature = request.headers.get(SIGNATURE, "")
        verifier = WebhookVerifier(self._secret)
        try:
            with anyio.fail_after(READ_S):
                is_whole = await _read(request, verifier, MAX_BODY if signature else MAX_PING)
        except TimeoutError:
            return self._refuse(408, f"the body took more than {READ_S:g} s", close=True)
        except ClientDisconnect:
            return self._refuse(400, "the connection ended before the body")
        if not is_whole and not signature:
            return self._refuse(401, NOT_SIGNED)
        if not is_whole:
            return self._refuse(413, f"the body has more than {MAX_BODY} bytes")
        verdict = verifier.verdict(signature=signature, topic=request.headers.get(TOPIC, ""))
        if verdict is Verdict.REFUSED:
            return self._refuse(401, DOES_NOT_FIT if signature else NOT_SIGNED)
        self._counter.webhook(verdict)
        if verdict is Verdict.ACCEPTED:
            if self._changes.changed("webhooks", verdict):
                self._log.info("webhooks of the shop arrive")
            self._trigger()
        return Response()

    def _refuse(self, status: int, why: str, *, close: bool = False) -> Response:
        self._counter.webhook(Verdict.REFUSED)
        # Each reason is logged once per process: anybody can send these requests, in any number.
        log = self._log.warning if self._changes.changed(why, Verdict.REFUSED) else self._log.debug
        log("a webhook was refused; if it was the shop's, see docs/hints.md", status=status, reason=why)
        return PlainTextResponse(f"{why}\n", status, {"Connection": "close"} if close else None)


async def _read(request: Request, verifier: WebhookVerifier, limit: int) -> bool:
    """Read the body without keeping it; return False if it is longer than the limit.

    Slow bodies take no memory and delay no other request, however many there are.

    Raises:
        ClientDisconnect: the connection ended before the body.
    """
    async for part in request.stream():
        if verifier.size + len(part) > limit:
            return False
        verifier.add(part)
    return True
