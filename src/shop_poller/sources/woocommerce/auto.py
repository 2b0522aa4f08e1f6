"""Chooses a dialect that the shop supports and keeps it. If the shop no longer supports it, chooses again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import anyio
import structlog

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.core.translatable import Text
from shop_poller.ports import Source
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.answers import RedirectedError
from shop_poller.sources.woocommerce.dialects import BLIND_TO, NEEDS, Dialect
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp

NOT_HERE = (
    ErrorKind.AUTHENTICATION,
    ErrorKind.SERVER,
    ErrorKind.PROTOCOL,
    ErrorKind.REJECTED,
    ErrorKind.NOT_FOUND,
)
"""Errors that concern one dialect, the most informative first. Any other error concerns the whole shop."""

SOON_S, LATER_S = 300.0, 24 * 3600.0
"""How long to keep a dialect that cannot see everything before a better one is tried again.

SOON_S is the first pause if a better one failed with a temporary error; it doubles each time, up to LATER_S.
LATER_S is the first pause if the shop does not have the better ones at all."""

PROBE = Query(per_page=1, newest_first=True)


@dataclass(frozen=True, slots=True)
class ChosenDialect:
    """The dialect that was chosen.

    Attributes:
        why: one line, for people.
        refused: why the dialects before it were not chosen, in their order.
    """

    dialect: Dialect
    why: str
    refused: Mapping[Dialect, str]


class Auto:
    """Asks in one of several dialects. For the methods, see ports.Source.

    Args:
        openers: functions that open the sources, the best dialect first.
        missing: dialects that cannot be tried, and why.
        on_choice: called with every choice.
        clock: a monotonic clock, in seconds.

    Attributes:
        choice: the current choice; None before the first answer.
    """

    def __init__(
        self,
        openers: Mapping[Dialect, Callable[[], Source]],
        *,
        missing: Mapping[Dialect, str] | None = None,
        on_choice: Callable[[ChosenDialect], None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.choice: ChosenDialect | None = None
        self._openers = dict(openers)
        self._missing = dict(missing or {})
        self._on_choice = on_choice
        self._clock = clock
        self._source: Source | None = None
        self._pause_s, self._again_at = LATER_S, 0.0

    @property
    def most_ids(self) -> int:
        """How many ids the chosen dialect accepts at once."""
        return self._source.most_ids if self._source else 1

    async def fetch(self, query: Query) -> Page:
        """Ask. If the shop no longer supports the dialect, choose another one and ask again.

        Raises:
            TemporaryError, PermanentError: the error of the source; if several fail, the most informative.
        """
        await self._reconsider()
        if self._source is None:
            await self._choose(list(self._openers))
        assert self._source is not None  # noqa: S101 - _choose sets it or raises
        try:
            return await self._source.fetch(query)
        except ShopPollerError as error:
            dialects = self._after(error)
            if not dialects:
                raise
            structlog.get_logger().warning(
                "the shop no longer supports its dialect; choosing again", error=str(error)
            )
        await self.aclose()
        await self._choose(dialects)
        if len(query.ids) > self.most_ids:
            raise TemporaryError(ErrorKind.PROTOCOL, Text("the dialect changed; asking again"))
        return await self._source.fetch(query)

    async def probe(self) -> Page:
        """Choose a dialect, and return the answer by which it was chosen.

        Raises:
            TemporaryError, PermanentError: as `fetch`.
        """
        return await self._choose(list(self._openers))

    def _after(self, error: ShopPollerError) -> list[Dialect]:
        """Return the dialects to choose from after an error; none to keep the chosen one.

        A dialect is replaced if the shop no longer has it, or refuses every call in it. Wrong keys are not a
        reason to replace it: that error must be reported. If only this endpoint refuses the keys (403), the
        dialects that need the same keys are tried. If none of them accepts the keys, the error is reported.
        """
        dialects = list(self._openers)
        if isinstance(error, PermanentError) and error.kind is ErrorKind.NOT_FOUND:
            return dialects
        if not getattr(self._source, "is_refused", False) or self.choice is None:
            return []
        if error.kind is ErrorKind.AUTHENTICATION:
            return [d for d in dialects if NEEDS[d] == NEEDS[self.choice.dialect]]
        return dialects

    async def aclose(self) -> None:
        """Close the chosen source."""
        source, self._source, self.choice = self._source, None, None
        if source is not None:
            await source.aclose()

    async def _reconsider(self) -> None:
        """Try the better dialects again, so that a short outage of one does not limit us forever."""
        if self.choice is None or not BLIND_TO[self.choice.dialect] or self._clock() < self._again_at:
            return
        dialects = list(self._openers)
        better = dialects[: dialects.index(self.choice.dialect)]
        if not better:
            return
        old = self._source
        try:
            await self._choose(better)
        except ShopPollerError as error:
            self._pause_s = min(2 * self._pause_s, LATER_S)
            self._again_at = self._clock() + self._pause_s
            if error.kind is ErrorKind.RATE_LIMIT:  # its pause concerns the chosen dialect too
                raise
            return
        if old is not None:
            await _close(old)

    async def _choose(self, dialects: Sequence[Dialect]) -> Page:
        """Choose the first dialect that answers, and return its answer.

        Raises:
            TemporaryError, PermanentError: none answers.
        """
        refused, errors = dict(self._missing), list[tuple[Dialect, ShopPollerError]]()
        for dialect in dialects:
            source = self._openers[dialect]()
            try:
                page = await _try(source)
            except BaseException as error:
                await _close(source)
                if not isinstance(error, ShopPollerError) or error.kind not in NOT_HERE:
                    raise
                refused[dialect] = error.text
                errors.append((dialect, error))
            else:
                self._source = source
                in_trouble = any(isinstance(error, TemporaryError) for _, error in errors)
                self._pause_s = SOON_S if in_trouble else LATER_S
                self._again_at = self._clock() + self._pause_s
                first = Text("it is the first that fits address and keys")
                why = Text("those before it do not answer") if errors else first
                self.choice = ChosenDialect(dialect, why, refused)
                self._on_choice(self.choice)
                return page
        raise min(errors, key=_says_little)[1]


def _says_little(refusal: tuple[Dialect, ShopPollerError]) -> tuple[bool, int, bool, bool]:
    """Return a sort key: the most informative error of a dialect comes first.

    The error at the bridge's address comes last, because most shops have no bridge. If all dialects are
    refused in the same way, the error of `rest` comes first: its advice fits every shop. The advice of the
    MCP dialects is to turn on MCP.
    """
    dialect, error = refusal
    return (
        dialect is Dialect.EXECUTE,
        NOT_HERE.index(error.kind),
        not isinstance(error, RedirectedError),
        dialect is not Dialect.REST,
    )


async def _close(source: Source) -> None:
    """Close a source, even while we are being canceled. It takes a moment at most."""
    with anyio.CancelScope(shield=True):
        await source.aclose()


async def _try(source: Source) -> Page:
    if isinstance(source, WooCommerceMcp | Abilities) and not await source.offered():
        raise PermanentError(ErrorKind.NOT_FOUND, Text("its MCP endpoint has no tool that lists orders"))
    return await source.fetch(PROBE)
