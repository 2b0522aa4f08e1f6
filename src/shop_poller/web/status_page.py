"""Handles the requests of the status page, and decides who may act. Imported at the first request."""

from collections.abc import Awaitable, Callable, Mapping
from typing import get_args

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.mutes import LONGEST
from shop_poller.observability.logging import Log
from shop_poller.web.admin_auth import SESSION_S, AdminAuth, TooManyError, bearer, same_origin
from shop_poller.web.forms import form_page, trouble_page
from shop_poller.web.frame import STYLE_HASH
from shop_poller.web.page import status_page
from shop_poller.web.requests import (
    ActionRefusedError,
    read_events,
    read_form,
    read_locale,
    read_mute,
    read_seq,
)
from shop_poller.web.snapshot import ActionResult, PageBackend, StatusSnapshot
from shop_poller.web.view_context import ViewContext

SNAPSHOT_S = 1.0
"""All clients share one snapshot for this time, so that they cannot overload the store."""

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:;"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # Not no-referrer: with it, browsers send "Origin: null" with our own forms, as with foreign ones.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
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
        admin_auth: decides who may act; None: nobody.
    """

    def __init__(
        self, backend: PageBackend, *, shop: str, locale: Locale, admin_auth: AdminAuth | None
    ) -> None:
        self._backend = backend
        self._shop = shop
        self._locale = locale
        self._admin_auth = admin_auth
        self._snapshot_lock = anyio.Lock()
        self._snapshot: StatusSnapshot | None = None
        self._snapshot_at = 0.0
        self._action_count = 0
        self._snapshot_action_count = 0  # its value when the snapshot was read
        self._pages: dict[ViewContext, str] = {}  # of that snapshot
        self._log: Log = structlog.get_logger()

    async def page(self, request: Request) -> Response:
        """Handle GET /: the status."""
        view = self._view_context(request, self._locale)
        if view.notice:  # for one reader, once: not kept in _pages
            return _html(status_page(await self._recent_snapshot(), view))
        snapshot = await self._recent_snapshot()
        if view not in self._pages:
            self._pages[view] = status_page(snapshot, view)
        return _html(self._pages[view])

    async def sign_in(self, request: Request) -> Response:
        """Handle GET and POST /sign-in."""
        view = self._view_context(request, self._locale)
        if request.method != "POST":
            return _html(form_page(view, self._shop))
        try:
            admin_auth = self._require_same_origin(request)
            fields = await read_form(request)
            self._check_token(admin_auth, fields.get("token", ""), request)
        except ActionRefusedError as error:
            return _html(form_page(view, self._shop, problem=view.say(error.text)), error.status)
        answer = RedirectResponse(f"./?lang={view.locale}", 303, HEADERS)
        answer.set_cookie(
            admin_auth.cookie,
            admin_auth.start_session(),
            max_age=round(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https://"),
        )
        self._log.info("signed in to the status page")
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Handle POST /sign-out."""
        if self._admin_auth is not None and same_origin(request):
            self._admin_auth.end_session(request)
        return RedirectResponse("./", 303, HEADERS)

    async def act(self, request: Request) -> Response:
        """Handle POST /actions/…; see DONE. A program receives one line, a browser the page."""
        by_program = bearer(request) is not None
        view = self._view_context(request, "en" if by_program else self._locale)
        action = request.path_params["action"]
        try:
            self._authorize(request)
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
        return _html(trouble_page(view, self._shop, view.say(text, **values), back=back), status)

    def _authorize(self, request: Request) -> None:
        """Refuse clients that may not act."""
        token = bearer(request)
        if token is None:
            admin_auth = self._require_same_origin(request)
            if not admin_auth.is_signed_in(request):
                raise ActionRefusedError(401, "not signed in")
        elif self._admin_auth is None:
            raise ActionRefusedError(404, "missing")
        else:
            # No browser adds this header to a foreign site's form, so the origin need not be checked.
            self._check_token(self._admin_auth, token, request)

    def _require_same_origin(self, request: Request) -> AdminAuth:
        if self._admin_auth is None:
            raise ActionRefusedError(404, "missing")
        if not same_origin(request):
            raise ActionRefusedError(403, "foreign")
        return self._admin_auth

    def _check_token(self, admin_auth: AdminAuth, token: str, request: Request) -> None:
        try:
            if admin_auth.accepts(token):
                return
        except TooManyError:
            raise ActionRefusedError(429, "too many") from None
        peer = request.client.host if request.client else ""
        self._log.warning("received a wrong SHOP_ADMIN_TOKEN", peer=peer)
        raise ActionRefusedError(401, "wrong")

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

    def _view_context(self, request: Request, default: Locale) -> ViewContext:
        query = request.query_params
        chosen = query.get("lang")
        locale = read_locale(chosen or "", request.headers.get("accept-language", ""), default)
        done, seq = query.get("done", ""), query.get("seq", "")
        signed_in = self._admin_auth is not None and self._admin_auth.is_signed_in(request)
        notice = ""
        if signed_in and done in DONE and seq.isascii() and seq.isdigit():
            notice = _result_text(ViewContext(locale), done, int(seq[:20]))
        return ViewContext(
            locale=locale,
            locale_chosen=chosen in get_args(Locale),
            no_refresh="still" in query,
            actions_enabled=self._admin_auth is not None,
            signed_in=signed_in,
            notice=notice,
        )


def _result_text(view: ViewContext, action: str, seq: int) -> str:
    """Say what was done, and to which dead letter."""
    return view.say(f"done {action}", seq=seq)


def _html(text: str, status: int = 200) -> Response:
    # A lone surrogate cannot be encoded as UTF-8; it must not cause an error.
    return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)
