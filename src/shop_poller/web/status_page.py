"""Handles the requests of the status page, and decides who may act. Imported at the first request."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.mutes import LONGEST
from shop_poller.observability.logging import Log
from shop_poller.web.admin_auth import AdminAuth, bearer
from shop_poller.web.forms import trouble_page
from shop_poller.web.page import status_page
from shop_poller.web.requests import ActionRefusedError, read_events, read_form, read_mute, read_seq
from shop_poller.web.sign_in import HEADERS, SignIn, html
from shop_poller.web.snapshot import ActionResult, PageBackend, StatusSnapshot
from shop_poller.web.view_context import ViewContext

SNAPSHOT_S = 1.0
"""All clients share one snapshot for this time, so that they cannot overload the store."""

REFUSAL_TEXTS: dict[ActionResult, str] = {
    ActionResult.NOT_LEADER: "follows",
    ActionResult.NO_LEADER: "leader",
    ActionResult.POLLING_OFF: "polling off",
    ActionResult.NO_SINK: "no sink",
    ActionResult.NO_EVENT: "no event",
    ActionResult.NO_SHOP: "no shop",
    ActionResult.NOT_HERE: "not here",
    ActionResult.MISSING: "missing",
}


DONE = frozenset({"poll", "mute", "unmute", "replay", "drop"})
"""The actions whose result the page shows."""


class StatusPage:
    """Answers browsers, and programs that use actions.

    Args:
        backend: provides the data and the actions.
        shop: the shop's id.
        locale: the default language.
        admin_auth: decides who may read and act; None: everybody may read, and nobody may act.
        home: the address of the overview of several shops, relative to this page; "" if there is none.
    """

    def __init__(
        self,
        backend: PageBackend,
        *,
        shop: str,
        locale: Locale,
        admin_auth: AdminAuth | None,
        home: str = "",
    ) -> None:
        self._backend = backend
        self._shop = shop
        self._sign_in = SignIn(admin_auth, title=shop, shop=shop, locale=locale, home=home)
        self._snapshot_lock = anyio.Lock()
        self._snapshot: StatusSnapshot | None = None
        self._snapshot_at = 0.0
        self._action_count = 0
        self._snapshot_action_count = 0  # its value when the snapshot was read
        self._pages: dict[ViewContext, str] = {}  # of that snapshot
        self._log: Log = structlog.get_logger()

    async def page(self, request: Request) -> Response:
        """Handle GET /: the status."""
        grant = self._sign_in.reader(request)
        if isinstance(grant, Response):
            return grant
        view = self._view_context(request)
        if view.notice:  # for one reader, once: not kept in _pages
            return html(status_page(await self._recent_snapshot(), view))
        snapshot = await self._recent_snapshot()
        if view not in self._pages:
            self._pages[view] = status_page(snapshot, view)
        return html(self._pages[view])

    async def sign_in(self, request: Request) -> Response:
        """Handle GET and POST /sign-in."""
        return await self._sign_in.form(request)

    async def sign_out(self, request: Request) -> Response:
        """Handle POST /sign-out."""
        return await self._sign_in.sign_out(request)

    async def act(self, request: Request) -> Response:
        """Handle POST /actions/…; see DONE. A program receives one line, a browser the page."""
        by_program = bearer(request) is not None
        view = self._sign_in.view_context(request, "en" if by_program else None)
        action = request.path_params["action"]
        try:
            self._sign_in.authorize(request)
            fields = await read_form(request) if action != "poll" else {}
            seq = read_seq(fields)
            await self._run_action(action, seq, fields)
        except ActionRefusedError as error:
            return self._refusal(view, by_program, error.status, error.text)
        except ShopPollerError as error:
            self._log.warning("an action failed", action=action, error=str(error))
            return self._refusal(view, by_program, 503, "unusable", detail=error)
        self._log.info("action done", action=action, dead_letter=seq or None)
        self._action_count += 1
        if by_program:
            return PlainTextResponse(f"{_result_text(view, action, seq)}\n", 200, HEADERS)
        # A browser is redirected to the page, which shows the result.
        keep_still = "&still=1" if view.no_refresh else ""
        return RedirectResponse(f"../?lang={view.locale}&done={action}&seq={seq}{keep_still}", 303, HEADERS)

    async def _run_action(self, action: str, seq: int, fields: Mapping[str, str]) -> None:
        """Carry out an action: on the dead letter with this seq, or as the other fields of its form say."""
        actions: dict[str, Callable[[int], Awaitable[ActionResult]]] = {
            "replay": self._backend.replay,
            "drop": self._backend.drop,
        }
        if action == "poll":
            result = await self._backend.poll_now()
        elif action == "mute":
            sink, seconds = read_mute(fields, LONGEST.total_seconds())
            result = await self._backend.mute(sink, seconds, read_events(fields))
        elif action == "unmute":
            result = await self._backend.mute(fields.get("sink", ""), 0, read_events(fields))
        elif action in actions and seq:
            result = await actions[action](seq)
        else:
            raise ActionRefusedError(404, "missing")
        if result is not ActionResult.DONE:
            raise ActionRefusedError(503 if result is ActionResult.NO_LEADER else 409, REFUSAL_TEXTS[result])

    def _refusal(
        self,
        view: ViewContext,
        by_program: bool,  # noqa: FBT001 - private
        status: int,
        text: str,
        **values: object,
    ) -> Response:
        if by_program:
            return PlainTextResponse(f"{view.say(text, **values)}\n", status, HEADERS)
        back = f"../?lang={view.locale}"
        return html(trouble_page(view, self._shop, view.say(text, **values), back=back), status)

    async def _recent_snapshot(self) -> StatusSnapshot:
        """Return a recent snapshot; clients that arrive while it is read share it."""
        async with self._snapshot_lock:
            now = anyio.current_time()
            count = self._action_count  # read first: the snapshot may lack actions that happen meanwhile
            if (
                self._snapshot is None
                or count != self._snapshot_action_count
                or now - self._snapshot_at >= SNAPSHOT_S
            ):
                self._snapshot = await self._backend.snapshot()
                self._snapshot_at, self._snapshot_action_count = now, count
                self._pages = {}
            return self._snapshot

    def _view_context(self, request: Request) -> ViewContext:
        """Return who reads, with the result of an action that this browser was redirected from."""
        view = self._sign_in.view_context(request)
        done, seq = request.query_params.get("done", ""), request.query_params.get("seq", "")
        if view.signed_in and done in DONE and seq.isascii() and seq.isdigit():
            return replace(view, notice=_result_text(view, done, int(seq[:20])))
        return view


def _result_text(view: ViewContext, action: str, seq: int) -> str:
    """Say what was done, and to which dead letter."""
    return view.say(f"done {action}", seq=seq)
