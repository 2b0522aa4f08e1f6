"""Chooses the dialect that a shop understands, keeps to it, and chooses anew when the shop has lost it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import anyio
import structlog

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Page, Query
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
"""Kinds that speak of one dialect, the most telling first; else the shop as a whole is in trouble."""

SOON_S, LATER_S = 300.0, 24 * 3600.0
"""How long a dialect is kept to that cannot see everything before a better one is tried again: at first, if
the better ones were only in trouble, then longer each time; at last, and if they were not there at all."""

PROBE = Query(per_page=1, newest_first=True)


@dataclass(frozen=True, slots=True)
class ChosenDialect:
    """What was chosen.

    Attributes:
        why: one line, for people.
        refused: why the dialects before it were not, in their order.
    """

    dialect: Dialect
    why: str
    refused: Mapping[Dialect, str]


class Auto:
    """Asks in one of several dialects. For the methods see ports.Source.

    Args:
        openers: make the sources, the best first.
        missing: dialects that cannot even be tried, and why.
        on_choice: is told of every choice.
        clock: seconds, monotonic.

    Attributes:
        choice: what is kept to now; None before the first answer.
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
        """As many as the chosen dialect takes."""
        return self._source.most_ids if self._source else 1

    async def fetch(self, query: Query) -> Page:
        """Ask; where the shop does not know the dialect any more, choose another and ask again.

        Raises:
            TemporaryError, PermanentError: what the source says; of several that do not answer, the most
                telling.
        """
        await self._reconsider()
        if self._source is None:
            await self._choose(list(self._openers))
        assert self._source is not None  # noqa: S101 - chosen, or an error
        try:
            return await self._source.fetch(query)
        except ShopPollerError as error:
            dialects = self._after(error)
            if not dialects:
                raise
            structlog.get_logger().warning("the shop lost its dialect; choosing anew", error=str(error))
        await self.aclose()
        await self._choose(dialects)
        if len(query.ids) > self.most_ids:
            raise TemporaryError(ErrorKind.PROTOCOL, "the dialect changed; asking anew")
        return await self._source.fetch(query)

    def _after(self, error: ShopPollerError) -> list[Dialect]:
        """The dialects to choose from after an error; none if the chosen one is kept to.

        It is left when the shop has it no more, or refuses every call in it. Wrong keys are no reason to
        leave: that must be told. Unless only this endpoint refuses them (403): then those that need the same
        keys are asked, and if none of them takes the keys, that is told.
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
        """Let go of what was chosen."""
        source, self._source, self.choice = self._source, None, None
        if source is not None:
            await source.aclose()

    async def _reconsider(self) -> None:
        """A shop that was half there for a moment is not seen with one eye for ever."""
        if self.choice is None or not BLIND_TO[self.choice.dialect] or self._clock() < self._again_at:
            return
        dialects = list(self._openers)
        better = dialects[: dialects.index(self.choice.dialect)]
        if not better:
            return
        old = self._source
        try:
            await self._choose(better)
        except ShopPollerError:
            self._pause_s = min(2 * self._pause_s, LATER_S)
            self._again_at = self._clock() + self._pause_s
            return
        if old is not None:
            await _close(old)

    async def _choose(self, dialects: Sequence[Dialect]) -> None:
        """Keep to the first dialect that answers.

        Raises:
            TemporaryError, PermanentError: none does.
        """
        refused, errors = dict(self._missing), list[tuple[Dialect, ShopPollerError]]()
        for dialect in dialects:
            source = self._openers[dialect]()
            try:
                await _try(source)
            except BaseException as error:
                await _close(source)
                if not isinstance(error, ShopPollerError) or error.kind not in NOT_HERE:
                    raise
                refused[dialect] = str(error)
                errors.append((dialect, error))
            else:
                self._source = source
                in_trouble = any(isinstance(error, TemporaryError) for _, error in errors)
                self._pause_s = SOON_S if in_trouble else LATER_S
                self._again_at = self._clock() + self._pause_s
                first = "it is the first that fits address and keys"
                why = "those before it do not answer" if errors else first
                self.choice = ChosenDialect(dialect, why, refused)
                self._on_choice(self.choice)
                return
        raise min(errors, key=_says_little)[1]


def _says_little(refusal: tuple[Dialect, ShopPollerError]) -> tuple[bool, int, bool, bool]:
    """How little the error of a dialect tells, to sort by.

    What is at the bridge's address of a shop that has no bridge tells least of all. Where all are refused
    alike, the advice of `rest` fits every shop: that of the MCP dialects speaks of switching on MCP.
    """
    dialect, error = refusal
    return (
        dialect is Dialect.EXECUTE,
        NOT_HERE.index(error.kind),
        not isinstance(error, RedirectedError),
        dialect is not Dialect.REST,
    )


async def _close(source: Source) -> None:
    """Let go of a source, even if we are being cut off; it takes a moment at most."""
    with anyio.CancelScope(shield=True):
        await source.aclose()


async def _try(source: Source) -> None:
    if isinstance(source, WooCommerceMcp | Abilities) and not await source.offered():
        raise PermanentError(ErrorKind.NOT_FOUND, "its MCP endpoint has no tool that lists orders")
    await source.fetch(PROBE)
