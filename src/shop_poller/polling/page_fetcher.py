"""Fetches pages with retries, smaller pages and shorter requests, a circuit breaker, and pauses."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

import anyio
import structlog

from shop_poller.circuit_breaker import Circuit
from shop_poller.core.breaker import BreakerState
from shop_poller.core.cursor import MAX_PER_PAGE, halve, may_hide_more
from shop_poller.core.errors import RETRY_AT_ONCE, ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.long_questions import can_shorten, is_long, only_new, shortened
from shop_poller.core.model import Page, Query
from shop_poller.core.page_size import LIGHTER_S, PageSize
from shop_poller.core.reach import Polls
from shop_poller.core.retry import full_jitter
from shop_poller.core.schedule import PROBE_EVERY_S, PollTrigger, ends_pause, pause_s
from shop_poller.core.translatable import Text
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import Source

RETRIES = 3
RETRY_BASE_S, RETRY_CAP_S = 1.0, 30.0
COUNTED = re.compile(r"\w*\d[\w.]*")
"""A part of a text that differs in each response, such as the time that a cache took."""
TOO_HEAVY = frozenset(
    {ErrorKind.SERVER, ErrorKind.TIMEOUT, ErrorKind.UNAVAILABLE, ErrorKind.CONNECTION, ErrorKind.TOO_LARGE}
)
"""Failures of a page that is too much for PHP's memory or time, or for a server before it."""
REFUSED = frozenset({ErrorKind.REJECTED, ErrorKind.PROTOCOL})
"""Failures of a request that is too long for a firewall, or of a response that was cut off."""
REFUSED_IF_LONG = REFUSED | {ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND}
"""The same for a request that excludes many orders, if a short one succeeded just before."""


class _Position(Protocol):
    """A walk, an import or a list of ids: a position that can be read in smaller pages."""

    def query(self) -> Query: ...

    def sized(self, per_page: int) -> Self: ...

    def halved(self) -> Self: ...


P = TypeVar("P", bound=_Position)


@dataclass(frozen=True, slots=True)
class _Only:
    """A request for one order, which cannot be made smaller."""

    only: Query

    def query(self) -> Query:
        return self.only

    def sized(self, _: int) -> "_Only":
        return self

    def halved(self) -> "_Only":
        return _Only(replace(self.only, per_page=halve(self.only.per_page)))


@dataclass(frozen=True, slots=True)
class _PageRequest(Generic[P]):
    """One of several attempts at a page.

    Attributes:
        position: the position to read from.
        short: the request excludes fewer orders than the position does.
        was_short: this attempt, or one before it, was short.
        number: from 1; a response that is too large does not count.
    """

    position: P
    short: bool = False
    was_short: bool = False
    number: int = 1


class Fetcher:
    """Stands between the poller and its source.

    Args:
        source: the source; it does not retry by itself.
        shop: the shop's id.
        metrics: counts failures.
        random: returns a random number from 0 to 1.

    Attributes:
        requested_at: when the last request was sent, on the event loop's clock.
        polls: successes and failures of polls, without those of sweeps.
    """

    def __init__(self, source: Source, *, shop: str, metrics: Metrics, random: Callable[[], float]) -> None:
        self.requested_at = -math.inf
        self.polls = Polls()
        self._source = source
        self._metrics = metrics
        self._random = random
        self._circuit = Circuit(shop, metrics)
        self._not_before = -math.inf
        self._paused_for = ErrorKind.CONNECTION  # the failure that caused the pause
        self._webhook_at = -math.inf  # when a webhook last ended a pause
        self._pause_ended = anyio.Event()  # replaced by each wait
        self._size = PageSize(MAX_PER_PAGE, MAX_PER_PAGE)
        self._short_until = -math.inf  # until then, long requests are sent as short ones
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    def pause_s(self) -> float:
        """Seconds left of the pause; 0 if the shop may be polled."""
        return max(0.0, self._not_before - anyio.current_time(), self._circuit.wait_s())

    @property
    def is_circuit_open(self) -> bool:
        """Whether the shop is paused after failures."""
        return self._circuit.state is not BreakerState.CLOSED

    def end_pause(self, trigger: PollTrigger) -> None:
        """End the pause if the trigger is sufficient; see schedule.ends_pause.

        Webhooks end one pause per minute at most: an attacker could record one and send it repeatedly.
        """
        now = anyio.current_time()
        if not self.pause_s() or not ends_pause(trigger, self._paused_for):
            return
        if trigger is PollTrigger.WEBHOOK:
            if now - self._webhook_at < PROBE_EVERY_S:
                return
            self._webhook_at = now
        self._not_before = now
        self._circuit.end_cooldown()
        self._pause_ended.set()

    def pause_after(self, error: ShopPollerError) -> None:
        """Pause as the response to another request demands; 429 concerns the whole shop."""
        if isinstance(error, TemporaryError) and error.kind is ErrorKind.RATE_LIMIT:
            until = anyio.current_time() + pause_s(error.kind, error.retry_after_s)
            self._not_before, self._paused_for = max(self._not_before, until), error.kind

    @property
    def most_ids(self) -> int:
        """The most orders that one request can name by their ids."""
        return self._source.most_ids

    async def page(self, position: P, deadline: float, *, patient: bool = True) -> tuple[P, Page]:
        """Return the next page of a walk or import, in a size that the shop can serve.

        After a failure, a smaller page or a request that excludes fewer orders follows within the same tick:
        see core/page_size.py and core/long_questions.py. If the shop reports no count, an empty page that is
        smaller than usual is followed by one of the usual size. For a sweep that is the size it requested.

        Args:
            position: the present position.
            deadline: when the next tick is due, on the event loop's clock; no wait exceeds it.
            patient: retry transient failures. A sweep does not, and chooses its own sizes.

        Returns:
            The position of the successful request, and its response.

        Raises:
            TemporaryError, PermanentError: no response.
        """
        wanted = self._size.most if patient else position.query().per_page
        if patient or wanted > self._size.current:
            position = position.sized(self._size.current)
        requested, page = await self._ask(position, deadline, patient=patient)
        largest = min(wanted, self._size.largest(anyio.current_time()))
        if may_hide_more(requested.query(), page, largest=largest):
            return await self._ask(requested.sized(largest), deadline, patient=patient)
        return requested, page

    async def fetch(self, query: Query, deadline: float) -> Page:
        """Fetch one order; retry transient failures.

        Raises:
            TemporaryError, PermanentError: no response.
        """
        return (await self._ask(_Only(query), deadline, patient=True))[1]

    async def _ask(self, position: P, deadline: float, *, patient: bool) -> tuple[P, Page]:
        short = anyio.current_time() < self._short_until and can_shorten(position.query())
        attempt = _PageRequest(position, short)
        while True:
            query = attempt.position.query()
            try:
                page = await self._ask_once(shortened(query) if attempt.short else query, patient=patient)
                if attempt.short:
                    return self._read_short(attempt.position, page)
            except ShopPollerError as error:
                following = self._after(error, attempt, patient=patient)
                is_other = (following.position, following.short) != (attempt.position, attempt.short)
                again_at = self._again_at(error, attempt, deadline, patient=patient, is_other=is_other)
                if again_at is None:
                    raise
                attempt = following
                await self._wait(again_at, error.kind)
            else:
                if patient and not isinstance(position, _Only):
                    self._size = self._size.answered(query.per_page, anyio.current_time())
                return attempt.position, page

    def _after(
        self, error: ShopPollerError, attempt: "_PageRequest[P]", *, patient: bool
    ) -> "_PageRequest[P]":
        """Return the attempt after a failure: a shorter request, a smaller page, or the same again."""
        position, query, kind = attempt.position, attempt.position.query(), error.kind
        if kind is ErrorKind.TOO_LARGE:
            smaller = position.halved()
            log = self._log.warning if self._changes.changed("size", kind) else self._log.debug
            log("response too large; requesting a smaller page", per_page=smaller.query().per_page)
            if patient:
                self._size = self._size.broke(query.per_page)
            return replace(attempt, position=smaller, short=False)
        again = replace(attempt, number=attempt.number + 1)
        if kind not in TOO_HEAVY | (REFUSED_IF_LONG if is_long(query) else REFUSED):
            return again
        if attempt.short:
            self._short_until = -math.inf
            if attempt.number == 1:  # it was shortened because of an earlier request
                return replace(again, short=False, was_short=True)
        is_known_size = not patient or query.per_page <= max(1, self._size.proven)
        if can_shorten(query) and not attempt.was_short and (is_known_size or attempt.number > 1):
            return replace(again, short=True, was_short=True)
        if patient and query.per_page > 1:
            is_last = kind not in RETRY_AT_ONCE or attempt.number >= RETRIES
            self._size = self._size.broke(query.per_page, is_last=is_last)
            return replace(again, position=position.sized(self._size.current), short=False)
        return replace(again, short=False)

    def _again_at(
        self,
        error: ShopPollerError,
        attempt: "_PageRequest[P]",
        deadline: float,
        *,
        patient: bool,
        is_other: bool,
    ) -> float | None:
        """Return when to retry within this tick, on the event loop's clock; None if not."""
        now = anyio.current_time()
        if error.kind is ErrorKind.TOO_LARGE:
            return now
        requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
        until = now if error.kind is ErrorKind.RATE_LIMIT else self.requested_at
        until += pause_s(error.kind, requested_s)
        is_open = self._circuit.wait_s() > 0
        # Long requests follow a short one that succeeded, so two more attempts at once do no harm.
        others = 2 if patient and is_long(attempt.position.query()) else 1
        is_free = is_other and attempt.number <= others and requested_s is None and not is_open
        if is_free and (not patient or error.kind not in RETRY_AT_ONCE):
            return now
        if patient and error.kind in RETRY_AT_ONCE:
            jitter_s = full_jitter(
                attempt.number, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S, random=self._random()
            )
            until = max(until, now + jitter_s)
            if until < deadline and attempt.number <= RETRIES and not is_open:
                return until
            if is_free and attempt.number == 1:  # a smaller request may precede the tick that is due
                return now
        elif requested_s is None:
            return None
        # A wait beyond the next tick ends this one. In any case the shop is not polled until then.
        self._not_before, self._paused_for = until, error.kind
        return None

    def _read_short(self, position: P, page: Page) -> tuple[P, Page]:
        """Return the new part of the response to a shortened request.

        Raises:
            TemporaryError: PROTOCOL, see long_questions.only_new.
        """
        page, is_whole = only_new(page, position.query())
        self._short_until = anyio.current_time() + LIGHTER_S
        # The size of this page does not show whether the walk is at its end.
        return (position if is_whole else position.sized(len(page.items))), page

    async def _wait(self, until: float, kind: ErrorKind) -> None:
        """Wait before a retry; `end_pause` ends the wait."""
        if until <= anyio.current_time():
            return
        self._not_before, self._paused_for, self._pause_ended = until, kind, anyio.Event()
        with anyio.CancelScope(deadline=until):
            await self._pause_ended.wait()

    async def _ask_once(self, query: Query, *, patient: bool) -> Page:
        wait_s = self._circuit.wait_s()
        if wait_s > 0:
            raise TemporaryError(
                ErrorKind.CIRCUIT_OPEN,
                Text("the shop failed repeatedly; polling is paused for {seconds:.0f} s", seconds=wait_s),
            )
        self._circuit.probe()
        self.requested_at = anyio.current_time()
        try:
            page = await self._source.fetch(query)
        except ShopPollerError as error:
            self._metrics.poll_errors(error.kind)
            if error.kind is ErrorKind.TOO_LARGE:  # the shop works; the request was too large
                self._circuit.success()
            elif patient:  # requests that are not urgent must not open the circuit
                self._circuit.failure()
                self._paused_for = error.kind
                self.polls = replace(self.polls, failures=self.polls.failures + 1, kind=error.kind)
            raise
        self._circuit.success()
        self.polls = Polls(has_answered=True)
        if self._changes.changed("preamble", COUNTED.sub("0", page.preamble)) and page.preamble:
            self._log.warning(
                "the shop prints text around its responses: a PHP notice, or a cache?", text=page.preamble
            )
        return page
