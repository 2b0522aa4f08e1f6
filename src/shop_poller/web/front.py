"""What answers for the status page: who may see it, who may act. Imported at the first request."""

import math
from collections.abc import Awaitable, Callable, Collection

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.logs import Log
from shop_poller.web.asking import (
    RefusedError,
    is_address,
    read_form,
    read_host,
    read_locale,
    read_seq,
)
from shop_poller.web.forms import form_page, trouble_page
from shop_poller.web.frame import STYLE_HASH
from shop_poller.web.gate import SESSION_S, Gate, TooManyError, bearer, same_origin
from shop_poller.web.glance import Asked, Glance, Inside
from shop_poller.web.look import Look
from shop_poller.web.page import status_page
from shop_poller.web.words import TEXTS

GLANCE_S = 1.0
"""However many look, the store is asked once in so long."""

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:;"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # Not no-referrer: with it browsers say "Origin: null" of our own forms as of anybody's.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REFUSALS: dict[Asked, str] = {
    Asked.FOLLOWS: "follows",
    Asked.NOBODY: "leader",
    Asked.OFF: "polling off",
    Asked.MISSING: "missing",
}


class Front:
    """Answers browsers, and programs that act.

    Args:
        inside: is looked at, and asked.
        shop: the shop's id.
        locale: the language of who does not say which one.
        hosts: names that the listener may be called by, besides addresses and localhost.
        gate: knows who may act; None: nobody.
    """

    def __init__(
        self, inside: Inside, *, shop: str, locale: Locale, hosts: Collection[str], gate: Gate | None
    ) -> None:
        self._inside = inside
        self._shop = shop
        self._locale = locale
        self._hosts = {host.lower() for host in hosts}
        self._gate = gate
        self._turn = anyio.Lock()
        self._glance: Glance | None = None
        self._looked_at = 0.0
        self._deeds = 0
        self._seen_after = 0  # deeds that the glance shows
        self._pages: dict[Look, str] = {}  # of that glance
        self._log: Log = structlog.get_logger()

    async def page(self, request: Request) -> Response:
        """GET /: how it goes."""
        if wrong := self._wrong_host(request):
            return wrong
        look = self._look(request)
        if look.notice:  # one person's, once
            return _html(status_page(await self._see(), look))
        glance = await self._see()
        if look not in self._pages:
            self._pages[look] = status_page(glance, look)
        return _html(self._pages[look])

    async def enter(self, request: Request) -> Response:
        """GET and POST /sign-in."""
        look = self._look(request)
        if wrong := self._wrong_host(request):
            return wrong
        if request.method != "POST":
            return _html(form_page(look, self._shop))
        try:
            gate = self._may_try(request)
            fields = await read_form(request)
            self._check(gate, fields.get("token", ""), request)
        except RefusedError as error:
            return _html(form_page(look, self._shop, problem=look.say(error.text)), error.status)
        answer = RedirectResponse(f"./?lang={look.locale}", 303, HEADERS)
        answer.set_cookie(
            gate.cookie,
            gate.open(),
            max_age=round(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https://"),
        )
        self._log.info("signed in to the status page")
        return answer

    async def leave(self, request: Request) -> Response:
        """POST /sign-out."""
        if wrong := self._wrong_host(request):
            return wrong
        if self._gate is not None and same_origin(request):
            self._gate.close(request)
        return RedirectResponse("./", 303, HEADERS)

    async def act(self, request: Request) -> Response:
        """POST /actions/…: poll, replay or drop. A program gets a line of text, a browser the page."""
        if wrong := self._wrong_host(request):
            return wrong
        look, deed = self._look(request), request.path_params["deed"]
        by_program = bearer(request) is not None
        try:
            self._let_in(request)
            seq = read_seq(await read_form(request)) if deed != "poll" else 0
            number = await self._do(deed, seq)
        except RefusedError as error:
            return self._refusal(look, by_program, error.status, error.text)
        except ShopPollerError as error:
            self._log.warning("an action failed", action=deed, error=str(error))
            return self._refusal(look, by_program, 503, "unusable", detail=error)
        self._log.info("done at somebody's wish", action=deed, dead_letter=seq or None)
        self._deeds += 1
        if by_program:
            return PlainTextResponse(f"{_done(Look('en'), deed, number)}\n", 200, HEADERS)
        # For the browser the page says it, where it is brought to.
        still = "&still=1" if look.still else ""
        return RedirectResponse(f"../?lang={look.locale}&done={deed}&seq={number}{still}", 303, HEADERS)

    async def _do(self, deed: str, seq: int) -> int:
        """Do it, and give the number that is told of it: see `_done`."""
        deeds: dict[str, Callable[[int], Awaitable[Asked]]] = {
            "replay": self._inside.replay,
            "drop": self._inside.drop,
        }
        if deed == "poll":
            asked, wait_s = await self._inside.poll_now()
            seq = math.ceil(wait_s)
        elif deed in deeds and seq:
            asked = await deeds[deed](seq)
        else:
            raise RefusedError(404, "missing")
        if asked is not Asked.DONE:
            raise RefusedError(503 if asked is Asked.NOBODY else 409, REFUSALS[asked])
        return seq

    def _refusal(self, look: Look, by_program: bool, status: int, text: str, **values: object) -> Response:  # noqa: FBT001 - private
        if by_program:
            return PlainTextResponse(f"{TEXTS['en'][text].format(**values)}\n", status, HEADERS)
        back = f"../?lang={look.locale}"
        return _html(trouble_page(look, self._shop, look.say(text, **values), back=back), status)

    def _let_in(self, request: Request) -> None:
        """Only who may act passes."""
        token = bearer(request)
        if token is None:
            gate = self._may_try(request)
            if not gate.knows(request):
                raise RefusedError(401, "not signed in")
        elif self._gate is None:
            raise RefusedError(404, "missing")
        else:
            # No browser adds this header to another site's form: whose page it was need not be asked.
            self._check(self._gate, token, request)

    def _may_try(self, request: Request) -> Gate:
        if self._gate is None:
            raise RefusedError(404, "missing")
        if not same_origin(request):
            raise RefusedError(403, "foreign")
        return self._gate

    def _check(self, gate: Gate, token: str, request: Request) -> None:
        try:
            if gate.fits(token):
                return
        except TooManyError:
            raise RefusedError(429, "too many") from None
        peer = request.client.host if request.client else ""
        self._log.warning("a wrong SHOP_ADMIN_TOKEN was shown", peer=peer)
        raise RefusedError(401, "wrong")

    async def _see(self) -> Glance:
        """A glance that is no older than a moment; who comes meanwhile waits for the same one."""
        async with self._turn:
            now = anyio.current_time()
            deeds = self._deeds  # what is done during a glance, it may not show
            if self._glance is None or deeds != self._seen_after or now - self._looked_at >= GLANCE_S:
                self._glance = await self._inside.glance()
                self._looked_at, self._seen_after = now, deeds
                self._pages = {}
            return self._glance

    def _look(self, request: Request) -> Look:
        query = request.query_params
        chosen = query.get("lang")
        locale = read_locale(chosen or "", request.headers.get("accept-language", ""), self._locale)
        done, seq = query.get("done", ""), query.get("seq", "")
        signed_in = self._gate is not None and self._gate.knows(request)
        notice = ""
        if signed_in and done in {"poll", "replay", "drop"} and seq.isascii() and seq.isdigit():
            notice = _done(Look(locale), done, int(seq[:20]))
        return Look(
            locale=locale,
            chosen=chosen in TEXTS,
            still="still" in query,
            acts=self._gate is not None,
            signed_in=signed_in,
            notice=notice,
        )

    def _wrong_host(self, request: Request) -> Response | None:
        """A name that is not ours may be that of a site that leads it here, to read us (DNS rebinding)."""
        host = read_host(request.headers.get("host", ""))
        if is_address(host) or host == "localhost" or host.endswith(".localhost") or host in self._hosts:
            return None
        text = "the listener is not known by this name; if it is right, add it to SHOP_HTTP_HOSTS\n"
        return PlainTextResponse(text, 421, HEADERS)


def _done(look: Look, deed: str, number: int) -> str:
    """What was done: to which dead letter, or in how many seconds the shop is polled."""
    if deed == "poll" and number:
        return look.say("done poll later", age=look.age(number))
    return look.say(f"done {deed}", seq=number)


def _html(text: str, status: int = 200) -> Response:
    # What no UTF-8 can say (half a surrogate) must not end in an error.
    return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)
