"""Asks a source with patience: retries within the tick, a circuit breaker, and a pause when asked for one."""

import math
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from shop_poller.circuit import Circuit
from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import RETRY_AT_ONCE, ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.core.retry import full_jitter
from shop_poller.logs import Edges, Log
from shop_poller.metrics import Metrics
from shop_poller.ports import Source

RETRIES = 3
RETRY_BASE_S, RETRY_CAP_S = 1.0, 30.0
RATE_LIMIT_WAIT_S = 60.0
"""How long a shop is left alone that says "too many requests" without saying until when."""
MAX_PAUSE_S = 15 * 60.0
TOO_HEAVY = frozenset({ErrorKind.SERVER, ErrorKind.TIMEOUT})
"""What a page may be answered with that is too much for PHP's memory, or its time."""
LIGHTER_S = 3600.0
"""How long a page of a size that was too much is not asked for again."""


class _Position(Protocol):
    """A walk, a lesson or a list of ids: what asks for pages, in smaller ones if need be."""

    def query(self) -> Query: ...

    def sized(self, per_page: int) -> Self: ...

    def halved(self) -> Self: ...


P = TypeVar("P", bound=_Position)


class Fetcher:
    """Stands between the poller and its source.

    Args:
        source: is asked; does not retry by itself.
        shop: the shop's id.
        metrics: count what fails.
        chance: a throw of dice, 0 to 1.
    """

    def __init__(self, source: Source, *, shop: str, metrics: Metrics, chance: Callable[[], float]) -> None:
        self._source = source
        self._metrics = metrics
        self._chance = chance
        self._circuit = Circuit(shop, metrics)
        self._not_before = -math.inf
        self._size = MAX_PER_PAGE  # of a page
        self._too_much, self._too_much_until = MAX_PER_PAGE, -math.inf
        self._bore = True  # the last page was answered
        self._edges = Edges()
        self._log: Log = structlog.get_logger()

    def pause_s(self) -> float:
        """Seconds for which the shop is to be left alone; 0 if it may be asked."""
        return max(0.0, self._not_before - anyio.current_time(), self._circuit.wait_s())

    @property
    def most_ids(self) -> int:
        """How many orders can be asked for by their ids at once."""
        return self._source.most_ids

    async def page(self, position: P, deadline: float, *, patient: bool = True) -> tuple[P, Page]:
        """The next page of a walk or lesson, of a size that the shop bears.

        An outage looks like a shop that breaks over a large page: so sizes are halved while nothing is
        answered, and doubled as long as pages are, up to what broke a shop that had answered just before.

        Args:
            position: where it stands.
            deadline: when the next tick is due, on the event loop's clock; no wait goes beyond it.
            patient: what passes quickly is asked again.

        Returns:
            The position that was asked with in the end, and the answer.

        Raises:
            TemporaryError, PermanentError: no answer.
        """
        if patient or position.query().per_page > self._size:  # a sweep finds its own
            position = position.sized(self._size)
        while True:
            size = position.query().per_page
            try:
                page = await self.fetch(position.query(), deadline, patient=patient)
            except TemporaryError as error:
                if patient and error.kind in {*TOO_HEAVY, ErrorKind.TOO_LARGE}:
                    self._broke(size)
                if error.kind is not ErrorKind.TOO_LARGE:
                    raise
                position = position.halved()
                log = self._log.warning if self._edges.changed("size", error.kind) else self._log.debug
                log("answer too large, asking for less", per_page=position.query().per_page)
            else:
                if patient:
                    self._answered(size)
                return position, page

    def _broke(self, size: int) -> None:
        if self._bore:
            self._too_much, self._too_much_until = size, anyio.current_time() + LIGHTER_S
        self._bore, self._size = False, max(1, size // 2)

    def _answered(self, size: int) -> None:
        larger = min(2 * size, MAX_PER_PAGE)
        if larger < self._too_much or anyio.current_time() >= self._too_much_until:
            self._size = larger
        self._bore = True

    async def fetch(self, query: Query, deadline: float, *, patient: bool = True) -> Page:
        """Ask; what passes quickly is asked again, up to three times, or not if it is not so urgent.

        Raises:
            TemporaryError, PermanentError: no answer.
        """

        def wait_s(state: RetryCallState) -> float:
            error, asked_s = _error(state), _asked_s(state)
            if asked_s is None and error is not None and error.kind is ErrorKind.RATE_LIMIT:
                asked_s = RATE_LIMIT_WAIT_S
            jitter_s = full_jitter(
                state.attempt_number, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S, chance=self._chance()
            )
            return max(asked_s or 0.0, jitter_s)

        def enough(state: RetryCallState) -> bool:
            until = anyio.current_time() + state.upcoming_sleep
            over = until >= deadline or state.attempt_number > RETRIES or self._circuit.wait_s() > 0
            over = over or not patient
            if over and (patient or _asked_s(state) is not None):
                # A wait that would pass the next tick ends this one; in any case the promise is kept.
                self._not_before = min(until, anyio.current_time() + MAX_PAUSE_S)
            return over

        retrying = AsyncRetrying(
            retry=retry_if_exception(
                lambda error: isinstance(error, TemporaryError) and error.kind in RETRY_AT_ONCE
            ),
            wait=wait_s,
            stop=enough,
            sleep=anyio.sleep,
            reraise=True,
        )
        return await retrying(self._ask_once, query, patient)

    async def _ask_once(self, query: Query, patient: bool) -> Page:  # noqa: FBT001 - tenacity's call
        wait_s = self._circuit.wait_s()
        if wait_s > 0:
            raise TemporaryError(
                ErrorKind.CIRCUIT_OPEN, f"the shop failed too often in a row; asking again in {wait_s:.0f} s"
            )
        self._circuit.probe()
        try:
            page = await self._source.fetch(query)
        except ShopPollerError as error:
            self._metrics.poll_errors(error.kind)
            if error.kind is ErrorKind.TOO_LARGE:  # an answer after all, and ours to ask for less
                self._circuit.success()
            elif patient:  # what is not urgent is no reason to leave the shop alone
                self._circuit.failure()
            raise
        self._circuit.success()
        if self._edges.changed("noise", page.noise) and page.noise:
            self._log.warning("the shop prints text before its answers: a PHP notice?", text=page.noise)
        return page


def _error(state: RetryCallState) -> TemporaryError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, TemporaryError) else None


def _asked_s(state: RetryCallState) -> float | None:
    """Seconds that the shop asked us to wait."""
    error = _error(state)
    return error.retry_after_s if error is not None else None
