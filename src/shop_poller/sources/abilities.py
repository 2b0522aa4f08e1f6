"""The dialect `abilities`: the default server of the WordPress MCP adapter.

It answers at …/wp-json/mcp/mcp-adapter-default-server, and cannot see everything: core.dialects.BLIND_TO.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Order, Page, Query, UnreadableOrder
from shop_poller.sources import poison
from shop_poller.sources.answers import COMMON_ADVICE
from shop_poller.sources.credentials import application_password
from shop_poller.sources.jsonrpc import InvalidOutputError, tool_error
from shop_poller.sources.listing import read_items
from shop_poller.sources.poison import Poisoned
from shop_poller.sources.session import McpSession

TOOL = "mcp-adapter-execute-ability"
ABILITY = "woocommerce/orders-query"
MAX_FOUND = 10
"""Bad orders that one question may find; the next goes on from there."""
MAX_QUESTIONS = 300
"""So many may it take to find them, half a minute of a shop's time; the search for one is ended."""
MAX_TRIES = 10
"""Pages of one order each that are looked at for the newest that is good."""

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: "check the user name and its application password (not a consumer key, and over"
    " https only), and that the user may view orders",
    ErrorKind.NOT_FOUND: "check WOOCOMMERCE_MCP_URL, and that the shop has the MCP Adapter and WooCommerce's"
    " ability woocommerce/orders-query (10.9 or later), or set SHOP_DIALECT=rest",
}
REMEDY = (
    "look in the shop's list of orders for one in a currency or status that the shop does not know any more,"
    " or set SHOP_DIALECT=rest"
)

Item = Order | UnreadableOrder


@dataclass(frozen=True, slots=True)
class _Listed:
    items: tuple[Item, ...]
    shop_time: datetime
    noise: str


class Abilities:
    """Lists orders by the ability `woocommerce/orders-query`. For the methods see ports.Source.

    Args:
        url: the endpoint.
        username: of a user of WordPress who may view orders.
        password: an application password of that user's, with blanks or without.
    """

    most_ids = 1

    def __init__(self, url: str, *, username: str, password: str) -> None:
        self._session = McpSession(url, application_password(username, password), ADVICE)
        self._poisoned = Poisoned()
        self._highest = 0
        self._questions = 0

    async def fetch(self, query: Query) -> Page:
        """Ask once; an order that spoils the answer is found by more questions, and set aside."""
        if query.ids:
            return await self._by_id(query)
        # The ability takes one status at a time.
        asked = [replace(query, statuses=(status,)) for status in query.statuses] or [query]
        answers = [await self._without_the_bad(each) for each in asked]
        items = answers[0].items if len(answers) == 1 else _merged(answers, query)
        noise = next((answer.noise for answer in answers if answer.noise), "")
        untold = self._poisoned.untold(query.exclude)
        return Page((*items, *untold), answers[0].shop_time, noise)

    async def offered(self) -> bool:
        """Whether the endpoint has the tool that executes abilities; raises what `fetch` raises."""
        return TOOL in await self._session.list_tools()

    async def aclose(self) -> None:
        """End the session."""
        await self._session.aclose()

    async def _by_id(self, query: Query) -> Page:
        (order_id,) = query.ids
        try:
            listed = await self._ask(replace(query, statuses=()))
        except InvalidOutputError as error:
            if error.shop_time is None:
                raise
            bad = self._poisoned.asked_for(order_id, poison.reason(error.said))
            return Page((bad,), error.shop_time)
        self._poisoned.healed(order_id)
        items = (item for item in listed.items if _of_status(item, query.statuses))
        return Page(tuple(items), listed.shop_time, listed.noise)

    async def _without_the_bad(self, query: Query) -> _Listed:
        questions = self._questions
        for _ in range(MAX_FOUND + 1):
            if self._questions - questions > MAX_QUESTIONS:
                break
            asked = replace(query, exclude=query.exclude | self._poisoned.ids)
            try:
                return await self._ask(asked)
            except InvalidOutputError as error:
                if not poison.concerns_an_order(error.said):
                    raise
                failure = error
            await self._set_aside(asked, failure)
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            "the shop has several orders that it cannot show; some were set aside, going on at the next tick;"
            f" {REMEDY}",
        )

    async def _set_aside(self, query: Query, failure: InvalidOutputError) -> None:
        """Find one order that makes a question fail, and remember it; or the shop changed meanwhile."""
        highest = await self._highest_id()
        narrowed = await poison.narrow(self._ids, query, failure)
        # Among many orders of one second the first is another one at each question; all of them are not.
        for question in (narrowed, query):
            if not await poison.fails(self._ids, question):
                continue
            found = await self._search(question, highest)
            if found is None:
                raise TemporaryError(
                    ErrorKind.PROTOCOL,
                    f"the shop has an order that it cannot show ({poison.reason(failure.said)}) and does not"
                    f" say which; {REMEDY}",
                )
            why = await self._guilt(found)
            if why:
                self._poisoned.found(found, why)
                break

    async def _search(self, question: Query, highest: int) -> int | None:
        """Among the newest, then by when it was made, then everywhere."""
        still_fails = partial(poison.fails, self._ids, question)
        found = await poison.culprit(still_fails, highest, windows=poison.NEAR, together=1)
        if found is None:
            made_at = await poison.made_at(self._ids, question)
            near = await poison.id_about(self._ids, made_at, self._poisoned.ids)
            if near is not None:
                top = near + poison.WINDOW
                found = await poison.culprit(still_fails, top, windows=poison.NEAR, together=1)
        return found if found is not None else await poison.culprit(still_fails, highest)

    async def _guilt(self, order_id: int) -> str:
        """Why the shop cannot show this order; "" if it can, or has none."""
        try:
            await self._ask(Query(per_page=1, ids=frozenset({order_id})))
        except InvalidOutputError as error:
            return poison.reason(error.said)
        except PermanentError:
            pass  # there is no such order, perhaps
        return ""

    async def _highest_id(self) -> int:
        """The highest id that is known. If all of the newest orders are bad, the good ones do not tell it."""
        for page in range(1, MAX_TRIES + 1):
            newest: dict[str, Any] = {"orderby": "id", "order": "desc", "per_page": 1, "page": page}
            if self._poisoned.ids:
                newest["exclude"] = sorted(self._poisoned.ids)
            try:
                listed = await self._call(newest, Query(per_page=1))
            except InvalidOutputError:
                continue
            if listed.items:
                return self._highest
            break
        bad = self._poisoned.ids
        return max(self._highest, max(bad) if bad else poison.FARTHEST)

    async def _ids(self, query: Query) -> Sequence[int]:
        return [item.id for item in (await self._ask(query)).items]

    async def _ask(self, query: Query) -> _Listed:
        return await self._call(parameters(query), query)

    async def _call(self, asked: dict[str, Any], query: Query) -> _Listed:
        self._questions += 1
        answer = await self._session.call_tool(TOOL, {"ability_name": ABILITY, "parameters": asked})
        if answer.content.get("success") is False:
            said = answer.content.get("error")
            raise tool_error(said if isinstance(said, str) else "", ADVICE, answer.shop_time)
        data = answer.content if "code" in answer.content else answer.content.get("data")
        found = data if isinstance(data, dict) else {}
        items = read_items(found if "code" in found else found.get("orders"), query, ADVICE)
        self._highest = max((self._highest, *(item.id for item in items)))
        return _Listed(items, answer.shop_time, answer.noise)


def parameters(query: Query) -> dict[str, Any]:
    """A query, of one status and one id at most, in the ability's own words."""
    asked: dict[str, Any] = {
        "per_page": query.per_page,
        "orderby": "date" if query.newest_first else "date_modified",
        "order": "desc" if query.newest_first else "asc",
    }
    if query.modified_after is not None:
        asked["modified_after"] = _zulu(query.modified_after)
    if query.created_after is not None:
        asked["date_after"] = _zulu(query.created_after)
    if query.created_before is not None:
        asked["date_before"] = _zulu(query.created_before)
    if query.statuses:
        (asked["status"],) = query.statuses
    if query.exclude:
        asked["exclude"] = sorted(query.exclude)
    if query.ids:
        (asked["id"],) = query.ids
    return asked


def _of_status(item: Item, statuses: Sequence[str]) -> bool:
    return not statuses or isinstance(item, UnreadableOrder) or item.status in statuses


def _zulu(instant: datetime) -> str:
    """UTC and its `Z`: without it the time would be the shop's, and with a fraction the zone is ignored."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _merged(answers: Sequence[_Listed], query: Query) -> tuple[Item, ...]:
    """The first page of several lists, each sorted as asked.

    An order that changed its status meanwhile may be in two of them: the later answer counts.
    """
    placed: dict[int, tuple[datetime, Item]] = {}
    for answer in answers:
        at = datetime.max.replace(tzinfo=UTC) if query.newest_first else datetime.min.replace(tzinfo=UTC)
        for item in answer.items:
            at = (item.created_at if query.newest_first else item.modified_at) or at
            placed[item.id] = (at, item)
    ordered = sorted(placed.values(), key=lambda pair: pair[0], reverse=query.newest_first)
    return tuple(item for _, item in ordered[: query.per_page])
