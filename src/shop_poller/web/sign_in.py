"""Signs browsers in and out, and refuses requests that may not read or act. Every page has one."""

from typing import get_args

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from shop_poller.core.messages import Locale
from shop_poller.observability.logging import Log
from shop_poller.web.admin_auth import (
    READS_ALL,
    SESSION_S,
    AdminAuth,
    Grant,
    TooManyError,
    bearer,
    same_origin,
)
from shop_poller.web.forms import form_page, trouble_page
from shop_poller.web.frame import STYLE_HASH
from shop_poller.web.requests import ActionRefusedError, read_form, read_locale
from shop_poller.web.view_context import ViewContext

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


class SignIn:
    """Signs in and out, for one page.

    Args:
        admin_auth: decides who may read and act; None: everybody may read, and nobody may act.
        title: of the forms: the shop's id.
        shop: the id of the shop that the page shows; None if it shows several.
        locale: the default language.
        home: the address of the overview of several shops, relative to the page; "" if there is none.
    """

    def __init__(
        self,
        admin_auth: AdminAuth | None,
        *,
        title: str,
        shop: str | None,
        locale: Locale,
        home: str = "",
    ) -> None:
        self._admin_auth = admin_auth
        self._title = title
        self._shop = shop
        self._locale = locale
        self._home = home
        self._log: Log = structlog.get_logger()

    def view_context(self, request: Request, default: Locale | None = None) -> ViewContext:
        """Return who reads: the language, and what this browser may."""
        query = request.query_params
        chosen = query.get("lang")
        grant = self._admin_auth.session_grant(request) if self._admin_auth is not None else None
        is_one_shops = grant is not None and grant.shops is not None and len(grant.shops) == 1
        return ViewContext(
            locale=read_locale(
                chosen or "", request.headers.get("accept-language", ""), default or self._locale
            ),
            locale_chosen=chosen in get_args(Locale),
            no_refresh="still" in query,
            actions_enabled=self._admin_auth is not None and self._admin_auth.has_actions,
            signed_in=grant is not None and grant.acts,
            reads_by_token=grant is not None and not grant.acts,
            home="" if is_one_shops else self._home,
        )

    async def form(self, request: Request) -> Response:
        """Handle GET and POST /sign-in."""
        view = self.view_context(request)
        if request.method != "POST":
            return self._form(view)
        try:
            admin_auth = self.require_same_origin(request)
            fields = await read_form(request)
            grant = self._checked(admin_auth, fields.get("token", ""), request)
        except ActionRefusedError as error:
            return self._form(view, problem=view.say(error.text), status=error.status)
        answer = RedirectResponse(f"./?lang={view.locale}", 303, HEADERS)
        answer.set_cookie(
            admin_auth.cookie,
            admin_auth.start_session(grant),
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

    def reader(self, request: Request) -> Grant | Response:
        """Return what a request may read, or the response that refuses it."""
        admin_auth = self._admin_auth
        if admin_auth is None or not admin_auth.guards_reading:
            return READS_ALL
        token = bearer(request)
        view = self.view_context(request, None if token is None else "en")
        grant = admin_auth.session_grant(request)
        if token is not None:
            try:
                grant = self._checked(admin_auth, token, request)
            except ActionRefusedError as error:
                return PlainTextResponse(f"{view.say(error.text)}\n", error.status, HEADERS)
        if grant is None:
            return self._form(view, status=401)
        if self._shop is None or grant.shows(self._shop):
            return grant
        return self._missing(view, by_program=token is not None)

    def missing(self, request: Request) -> Response:
        """Answer that there is no such shop, to clients that may read at all."""
        grant = self.reader(request)
        if isinstance(grant, Response):
            return grant
        return self._missing(self.view_context(request), by_program=bearer(request) is not None)

    def authorize(self, request: Request) -> None:
        """Refuse clients that may not act.

        Raises:
            ActionRefusedError: with the status and the reason.
        """
        token = bearer(request)
        if token is None:
            grant = self.require_same_origin(request).session_grant(request)
            if grant is None:
                raise ActionRefusedError(401, "not signed in")
        elif self._admin_auth is None:
            raise ActionRefusedError(404, "missing")
        else:
            # No browser adds this header to a foreign site's form, so the origin need not be checked.
            grant = self._checked(self._admin_auth, token, request)
        if not grant.acts:
            raise ActionRefusedError(403, "reads only")

    def require_same_origin(self, request: Request) -> AdminAuth:
        """Return the tokens; refuse forms that another site sent.

        Raises:
            ActionRefusedError: likewise if there are no tokens.
        """
        if self._admin_auth is None:
            raise ActionRefusedError(404, "missing")
        if not same_origin(request):
            raise ActionRefusedError(403, "foreign")
        return self._admin_auth

    def _checked(self, admin_auth: AdminAuth, token: str, request: Request) -> Grant:
        try:
            grant = admin_auth.grant_of(token)
        except TooManyError:
            raise ActionRefusedError(429, "too many") from None
        if grant is not None:
            return grant
        peer = request.client.host if request.client else ""
        name = "token" if admin_auth.guards_reading else "SHOP_ADMIN_TOKEN"
        self._log.warning(f"received a wrong {name}", peer=peer)
        raise ActionRefusedError(401, "wrong")

    def _missing(self, view: ViewContext, *, by_program: bool) -> Response:
        if by_program:
            return PlainTextResponse(f"{view.say('no shop')}\n", 404, HEADERS)
        return html(trouble_page(view, self._title, view.say("no shop"), back=self._home or "./"), 404)

    def _form(self, view: ViewContext, *, problem: str = "", status: int = 200) -> Response:
        is_guarded = self._admin_auth is not None and self._admin_auth.guards_reading
        label = view.say("any token" if is_guarded else "token")
        return html(
            form_page(view, self._title, label=label, problem=problem, can_leave=not is_guarded), status
        )


def html(text: str, status: int = 200) -> Response:
    """Return a page."""
    # A lone surrogate cannot be encoded as UTF-8; it must not cause an error.
    return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)
