"""The dialect `abilities`: the default server of the WordPress MCP adapter.

It answers at …/wp-json/mcp/mcp-adapter-default-server. dialects.BLIND_TO lists what it cannot show.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Page, Query, UnreadableOrder
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce import poison
from shop_poller.sources.woocommerce.ability_query import (
    Boundary,
    Item,
    Listed,
    boundaries,
    merged,
    parameters,
    sum_of,
)
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, count
from shop_poller.sources.woocommerce.credentials import application_password
from shop_poller.sources.woocommerce.jsonrpc import InvalidOutputError, UnexplainedError, tool_error
from shop_poller.sources.woocommerce.listing import read_items, unnamed
from shop_poller.sources.woocommerce.poison import Poisoned
from shop_poller.sources.woocommerce.session import McpSession

TOOL = "mcp-adapter-execute-ability"
ABILITY = "woocommerce/orders-query"
MAX_FOUND = 10
"""Bad orders that one query may find. The next query continues from there."""
MAX_QUESTIONS = 300
"""Requests that may be spent on finding them: half a minute of a shop's time. A begun search completes."""
MAX_QUESTIONS_UNEXPLAINED = 150
"""The same limit if the shop does not say that an order is the cause."""
MAX_TRIES = 10
"""Pages of one order each that are requested to find the newest good order."""
MAX_TRIES_UNEXPLAINED = 3
NEVER = datetime(2100, 1, 1, tzinfo=UTC)
"""No order is created after this date: a request for later ones matches nothing."""
NO_SUCH_ORDER = re.compile(r"\border not found\b", re.IGNORECASE)

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: Text(
        "check the user name and its application password (not a consumer key, and over "
        "https only), and that the user may view orders"
    ),
    ErrorKind.NOT_FOUND: Text(
        "check WOOCOMMERCE_MCP_URL, and that the shop has the MCP Adapter and WooCommerce's "
        "ability woocommerce/orders-query (10.9 or later), or set SHOP_DIALECT=rest"
    ),
}
REMEDY = Text(
    "look in the shop's list of orders for one in a currency or status that the shop no "
    "longer knows, or set SHOP_DIALECT=rest"
)


class Abilities:
    """Lists orders by the ability `woocommerce/orders-query`. For the methods, see ports.Source.

    Args:
        url: the endpoint.
        username: the name of a WordPress user who may view orders.
        password: an application password of that user, with or without spaces.
        other_secrets: other secrets that the shop knows and must not show.
    """

    most_ids = 1

    def __init__(self, url: str, *, username: str, password: str, other_secrets: Sequence[str] = ()) -> None:
        self._session = McpSession(url, application_password(username, password, other_secrets), ADVICE)
        self._poisoned = Poisoned()
        self._highest = 0
        self._questions = 0
        self._inclusive: frozenset[Boundary] = frozenset()
        self._is_unexplained = False  # whether the shop does not report the cause that is being searched for

    @property
    def is_refused(self) -> bool:
        """Whether the last response shows that there is no MCP endpoint for us here."""
        return self._session.is_refused

    async def fetch(self, query: Query) -> Page:
        """Ask once. If an order makes the request fail, find it by more requests, and set it aside."""
        if query.ids:
            return await self._by_id(query)
        # The ability accepts one status per request.
        requested = [replace(query, statuses=(status,)) for status in query.statuses] or [query]
        answers = [await self._without_the_bad(each) for each in requested]
        items = answers[0].items if len(answers) == 1 else merged(answers, query)
        preamble = next((answer.preamble for answer in answers if answer.preamble), "")
        unreported = self._poisoned.unreported(query.exclude)
        return Page(
            (*items, *unreported),
            answers[0].shop_time,
            preamble,
            total=sum_of(answer.total for answer in answers),
            total_pages=sum_of(answer.total_pages for answer in answers),
        )

    async def offered(self) -> bool:
        """Return whether the endpoint has the tool that executes abilities. Raises what `fetch` raises."""
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
            bad = self._poisoned.requested_ids(order_id, poison.reason(error.said))
            return Page((bad,), error.shop_time)
        except UnexplainedError as error:
            return await self._not_shown(order_id, error)
        self._poisoned.forget(order_id)
        items = (item for item in listed.items if _of_status(item, query.statuses))
        return Page(tuple(items), listed.shop_time, listed.preamble)

    async def _not_shown(self, order_id: int, error: UnexplainedError) -> Page:
        """Read the result for an order that the shop does not show by its id.

        The order is deleted, the order is bad, or the shop fails. The text is translated, and one adapter
        hides it. So "Order not found." and the reason why an order cannot be shown may look the same.
        """
        if NO_SUCH_ORDER.search(error.said) and error.shop_time is not None:
            self._poisoned.forget(order_id)
            return Page((), error.shop_time)
        empty = await self._empty(Query(per_page=1), error)
        if order_id in self._poisoned.ids:
            return Page((self._poisoned.requested_ids(order_id, poison.reason(error.said)),), empty.shop_time)
        if not poison.names_an_exception(error.said):
            return Page((), empty.shop_time)
        await self._some_order(error)
        return Page((self._poisoned.requested_ids(order_id, poison.reason(error.said)),), empty.shop_time)

    async def _without_the_bad(self, query: Query) -> Listed:
        questions, most = self._questions, MAX_QUESTIONS
        for _ in range(MAX_FOUND + 1):
            if self._questions - questions > most:
                break
            requested = replace(query, exclude=query.exclude | self._poisoned.ids)
            self._is_unexplained = False
            try:
                return await self._ask(requested)
            except InvalidOutputError as error:
                if not poison.concerns_an_order(error.said):
                    raise
                failure = error
            except UnexplainedError as error:
                await self._empty(requested, error)
                await self._some_order(error)
                failure, most = InvalidOutputError(error.said, error.shop_time), MAX_QUESTIONS_UNEXPLAINED
                self._is_unexplained = True
            await self._set_aside(requested, failure)
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "the shop has several orders that it cannot show; some are set aside, the next tick "
                "continues; {remedy}",
                remedy=REMEDY,
            ),
        )

    async def _empty(self, query: Query, error: UnexplainedError) -> Listed:
        """Send the same query in a form that matches no order.

        Raises:
            UnexplainedError: `error`, if this query fails too, so that no order is the cause.
        """
        requested = replace(
            query,
            per_page=1,
            page=1,
            created_after=NEVER,
            created_before=None,
            ids=frozenset(),
            exclude=frozenset(),
        )
        try:
            return await self._ask(requested)
        except (InvalidOutputError, UnexplainedError):
            raise error from None

    async def _some_order(self, error: UnexplainedError) -> None:
        """Check that the shop can show any order.

        Raises:
            UnexplainedError: `error`, if it cannot, so that no single order is the cause.
        """
        for page, order in [*((n, "desc") for n in range(1, MAX_TRIES_UNEXPLAINED + 1)), (1, "asc")]:
            try:
                if (await self._by_position(page, order)).items:
                    return
            except (InvalidOutputError, UnexplainedError):
                continue
        raise error

    async def _set_aside(self, query: Query, failure: InvalidOutputError) -> None:
        """Find one order that makes a query fail, and remember it; none if the shop changed meanwhile."""
        highest = await self._highest_id()
        narrowed = await poison.narrow(self._ids, query, failure)
        # Among many orders of the same second, the first one may differ per request. The whole set does not.
        for question in (narrowed, query):
            if not await poison.fails(self._ids, question):
                continue
            found = await self._search(question, highest)
            if found is None:
                raise TemporaryError(
                    ErrorKind.PROTOCOL,
                    Text(
                        "the shop has an order that it cannot show ({reason}) and does not say which; "
                        "{remedy}",
                        reason=poison.reason(failure.said),
                        remedy=REMEDY,
                    ),
                )
            why = await self._why_unreadable(found)
            if why:
                self._poisoned.add(found, why)
                break

    async def _search(self, question: Query, highest: int) -> int | None:
        """Search among the newest orders, then by the time of creation, then everywhere."""
        still_fails = partial(poison.fails, self._ids, question)
        found = await poison.find_bad_order(still_fails, highest, windows=poison.NEAR, together=1)
        if found is None:
            made_at = await poison.made_at(self._ids, question)
            near = await poison.id_about(self._ids, made_at, self._poisoned.ids)
            if near is not None:
                top = near + poison.WINDOW
                found = await poison.find_bad_order(still_fails, top, windows=poison.NEAR, together=1)
        return found if found is not None else await poison.find_bad_order(still_fails, highest)

    async def _why_unreadable(self, order_id: int) -> str:
        """Return why the shop cannot show this order; "" if it can, or if there is no such order."""
        by_id = Query(per_page=1, ids=frozenset({order_id}))
        try:
            await self._ask(by_id)
        except InvalidOutputError as error:
            return poison.reason(error.said)
        except UnexplainedError as error:
            await self._empty(Query(per_page=1), error)  # raises if the shop itself fails by now
            if not self._is_unexplained:
                return ""  # there is no such order
            return poison.reason(error.said) if await poison.fails(self._ids, by_id) else ""
        except PermanentError:
            pass  # there is no such order, perhaps
        return ""

    async def _highest_id(self) -> int:
        """Return the highest known id. If all of the newest orders are bad, the good ones do not show it."""
        for page in range(1, MAX_TRIES + 1):
            try:
                listed = await self._by_position(page, "desc")
            except InvalidOutputError:
                continue
            except UnexplainedError:
                if not self._is_unexplained:
                    raise
                continue
            if listed.items:
                return self._highest
            break
        bad = self._poisoned.ids
        return max(self._highest, max(bad) if bad else poison.FARTHEST)

    async def _by_position(self, page: int, order: str) -> Listed:
        """Return the one order at this position in the list of all orders, sorted by id."""
        requested: dict[str, Any] = {"orderby": "id", "order": order, "per_page": 1, "page": page}
        if self._poisoned.ids:
            requested["exclude"] = sorted(self._poisoned.ids)
        return await self._call(requested, Query(per_page=1))

    async def _ids(self, query: Query) -> Sequence[int]:
        try:
            return [item.id for item in (await self._ask(query)).items]
        except UnexplainedError as error:
            if not self._is_unexplained:
                raise
            raise InvalidOutputError(error.said, error.shop_time) from None

    async def _ask(self, query: Query) -> Listed:
        listed = await self._call(parameters(query, self._inclusive), query)
        new_boundaries = boundaries(listed.items, query) - self._inclusive
        if not new_boundaries:
            return listed
        self._inclusive |= new_boundaries
        return await self._call(parameters(query, self._inclusive), query)

    async def _call(self, requested: dict[str, Any], query: Query) -> Listed:
        self._questions += 1
        answer = await self._session.call_tool(TOOL, {"ability_name": ABILITY, "parameters": requested})
        if answer.content.get("success") is False:
            said = answer.content.get("error")
            raise tool_error(said if isinstance(said, str) else "", ADVICE, answer.shop_time)
        data = answer.content.get("data")
        found = data if isinstance(data, dict) else {}
        try:
            # PHP writes an empty object as []. In place of the object, that is not an empty list of orders.
            items = read_items({} if data == [] else answer.content, query, ADVICE)
        except PermanentError as error:
            if query.ids and error.kind is ErrorKind.NOT_FOUND:  # the order, not the ability
                raise UnexplainedError(error.text, "Order not found", answer.shop_time) from None
            raise
        self._highest = max((self._highest, *(item.id for item in items)))
        return Listed(
            items,
            answer.shop_time,
            answer.preamble or unnamed(answer.content, items),
            total=count(found.get("total")),
            total_pages=count(found.get("total_pages")),
        )


def _of_status(item: Item, statuses: Sequence[str]) -> bool:
    return not statuses or isinstance(item, UnreadableOrder) or item.status in statuses
