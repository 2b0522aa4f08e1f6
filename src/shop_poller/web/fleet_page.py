"""Handles the requests of the overview of several shops. Imported at the first request."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import anyio
import structlog
from anyio.lowlevel import checkpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from shop_poller import __version__
from shop_poller.clock import now
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.mutes import LONGEST
from shop_poller.observability.logging import Log
from shop_poller.web.admin_auth import AdminAuth, Grant, bearer
from shop_poller.web.fleet_rows import FleetQuery, JudgedRow, judged, worst_first
from shop_poller.web.fleet_snapshot import FleetBackend, FleetRow
from shop_poller.web.fleet_table import fleet_page, most_rows, shop_row
from shop_poller.web.forms import trouble_page
from shop_poller.web.requests import ActionRefusedError, read_mute, read_selection
from shop_poller.web.sign_in import HEADERS, SignIn, html
from shop_poller.web.snapshot import ActionResult
from shop_poller.web.status_page import REFUSAL_TEXTS
from shop_poller.web.view_context import ViewContext

Item = TypeVar("Item")
AT_ONCE = 200
"""After so many rows, other tasks of the process run: it polls shops at the same time."""
MOST_PAGES = 32
"""How many pages are kept until the data are read again."""
NOT_FOR_TENANTS = (
    "metrics name all shops, and some tokens show some shops only: send SHOP_READ_TOKEN as a bearer token\n"
)
ACTIONS = frozenset({"poll", "mute", "unmute"})
"""What can be done with a selection of shops."""


class FleetPage:
    """Answers browsers, and programs that use actions of several shops.

    Args:
        backend: provides the data and the actions.
        locale: the default language.
        admin_auth: decides who may read and act; None: everybody may read, and nobody may act.
    """

    def __init__(self, backend: FleetBackend, *, locale: Locale, admin_auth: AdminAuth | None) -> None:
        self._backend = backend
        self._sign_in = SignIn(admin_auth, title="shop-poller", shop=None, locale=locale)
        self._lock = anyio.Lock()
        self._rows: Sequence[FleetRow] = ()
        self._judged: list[JudgedRow] = []
        self._pages: dict[tuple[ViewContext, FleetQuery, Grant], str] = {}  # of these rows
        self._log: Log = structlog.get_logger()

    async def page(self, request: Request) -> Response:
        """Handle GET /: the shops that the reader may see, the worst first."""
        grant = self._sign_in.reader(request)
        if isinstance(grant, Response):
            return grant
        if grant.shops is not None and len(grant.shops) == 1:
            return RedirectResponse(f"shops/{next(iter(grant.shops))}/", 303, HEADERS)
        query = FleetQuery.of(request.query_params)
        view = self._view_context(request, query)
        async with self._lock:
            rows = await self._backend.rows()
            if rows is not self._rows:
                self._judged = worst_first([judged(row) async for row in _in_turns(rows)])
                self._rows, self._pages = rows, {}
            key = view, query, grant
            if key not in self._pages:
                if len(self._pages) >= MOST_PAGES:
                    self._pages.clear()
                self._pages[key] = await self._render(view, query, grant)
            return html(self._pages[key])

    def refuse_metrics(self, request: Request) -> Response | None:
        """Refuse /metrics, which names all shops, to clients that may not read about all. None for others."""
        grant = self._sign_in.reader(request)
        if isinstance(grant, Grant) and grant.shops is None:
            return None
        return PlainTextResponse(NOT_FOR_TENANTS, 401, {**HEADERS, "WWW-Authenticate": "Bearer"})

    async def sign_in(self, request: Request) -> Response:
        """Handle GET and POST /sign-in."""
        return await self._sign_in.form(request)

    async def sign_out(self, request: Request) -> Response:
        """Handle POST /sign-out."""
        return await self._sign_in.sign_out(request)

    async def act(self, request: Request) -> Response:
        """Handle POST /actions/…: one of ACTIONS, for each selected shop."""
        by_program = bearer(request) is not None
        query = FleetQuery.of(request.query_params)
        view = self._sign_in.view_context(request, "en" if by_program else None)
        view = view.with_query(query.parameters)
        action = request.path_params["action"]
        try:
            self._sign_in.authorize(request)
            shops, seconds = await _selected(request, action)
        except ActionRefusedError as error:
            return self._refused(view, by_program, error.status, [view.say(error.text)])
        problems = []
        for shop in shops:
            problem = await self._act_on(shop, action, seconds, view)
            if problem:
                problems.append(f"{shop}: {problem}")
        self._log.info("action done", action=action, shops=len(shops) - len(problems), refused=len(problems))
        if problems:
            return self._refused(view, by_program, 409, problems)
        if by_program:
            return PlainTextResponse(f"{view.say(f'done shops {action}', count=len(shops))}\n", 200, HEADERS)
        back = view.page_url(lang=view.locale)
        return RedirectResponse(f".{back}&done={action}&count={len(shops)}", 303, HEADERS)

    async def _act_on(self, shop: str, action: str, seconds: int, view: ViewContext) -> str:
        """Carry out an action on one shop. Return why it was not done; "" if it was."""
        if shop not in self._backend.shops:
            return view.say(REFUSAL_TEXTS[ActionResult.NO_SHOP])
        if not self._backend.is_here(shop):
            return view.say(REFUSAL_TEXTS[ActionResult.NOT_HERE])
        page = await self._backend.backend(shop)
        steps: list[Callable[[], Awaitable[ActionResult]]] = [page.poll_now]
        if action != "poll":
            steps = [_muting(page.mute, sink, seconds) for sink in self._backend.sinks(shop)]
        try:
            for step in steps:
                result = await step()
                if result is not ActionResult.DONE:
                    return view.say(REFUSAL_TEXTS[result])
        except ShopPollerError as error:
            self._log.warning("an action failed", action=action, shop=shop, error=str(error))
            return view.say("unusable", detail=view.line(error.text))
        return ""

    def _refused(
        self,
        view: ViewContext,
        by_program: bool,  # noqa: FBT001 - private
        status: int,
        problems: Sequence[str],
    ) -> Response:
        if by_program:
            return PlainTextResponse("".join(f"{line}\n" for line in problems), status, HEADERS)
        back = f".{view.page_url(lang=view.locale)}"
        return html(trouble_page(view, "shop-poller", *problems, back=back), status)

    async def _render(self, view: ViewContext, query: FleetQuery, grant: Grant) -> str:
        every = [one for one in self._judged if grant.shows(one.row.shop)]
        chosen = [one for one in every if query.accepts(one)]
        first = (query.page - 1) * most_rows(view)
        rows = [shop_row(view, one) async for one in _in_turns(chosen[first : first + most_rows(view)])]
        return fleet_page(
            view,
            query,
            version=__version__,
            every=every,
            chosen=chosen,
            rows="".join(rows),
            now=now(),
        )

    def _view_context(self, request: Request, query: FleetQuery) -> ViewContext:
        """Return who reads, with the result of an action that this browser was redirected from."""
        view = self._sign_in.view_context(request).with_query(query.parameters)
        done, count = request.query_params.get("done", ""), request.query_params.get("count", "")
        if view.signed_in and done in ACTIONS and count.isascii() and count.isdigit() and len(count) < 6:
            return replace(view, notice=view.say(f"done shops {done}", count=count))
        return view


async def _selected(request: Request, action: str) -> tuple[list[str], int]:
    """Return the selected shops, and for how many seconds their sinks are muted.

    Raises:
        ActionRefusedError: there is no such action, or nothing is selected.
    """
    if action not in ACTIONS:
        raise ActionRefusedError(404, "no action")
    shops, fields = await read_selection(request)
    if not shops:
        raise ActionRefusedError(400, "none selected")
    return shops, read_mute(fields, LONGEST.total_seconds())[1] if action == "mute" else 0


def _muting(
    mute: Callable[[str, float], Awaitable[ActionResult]], sink: str, seconds: int
) -> Callable[[], Awaitable[ActionResult]]:
    return lambda: mute(sink, seconds)


async def _in_turns(items: Sequence[Item]) -> AsyncIterator[Item]:
    """Yield the items, and let other tasks run meanwhile."""
    for number, item in enumerate(items, 1):
        if number % AT_ONCE == 0:
            await checkpoint()
        yield item
