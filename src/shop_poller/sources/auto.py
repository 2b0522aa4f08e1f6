"""Chooses the dialect that a shop understands, keeps to it, and chooses anew when the shop has lost it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from shop_poller.core.dialects import BLIND_TO, Dialect
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.ports import Source
from shop_poller.sources.abilities import Abilities
from shop_poller.sources.woocommerce_mcp import WooCommerceMcp

NOT_HERE = (
    ErrorKind.AUTHENTICATION,
    ErrorKind.SERVER,
    ErrorKind.PROTOCOL,
    ErrorKind.REJECTED,
    ErrorKind.NOT_FOUND,
)
"""Kinds that speak of one dialect, the most telling first; else the shop as a whole is in trouble."""

RECONSIDER_S = 24 * 3600.0
"""How long a dialect is kept to that cannot see everything, before a better one is tried again."""

PROBE = Query(per_page=1, newest_first=True)


@dataclass(frozen=True, slots=True)
class Choice:
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
        on_choice: Callable[[Choice], None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.choice: Choice | None = None
        self._openers = dict(openers)
        self._missing = dict(missing or {})
        self._on_choice = on_choice
        self._clock = clock
        self._source: Source | None = None
        self._chosen_at = 0.0

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
        except PermanentError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            structlog.get_logger().warning("the shop lost its dialect; choosing anew", error=str(error))
        await self.aclose()
        await self._choose(list(self._openers))
        if len(query.ids) > self.most_ids:
            raise TemporaryError(ErrorKind.PROTOCOL, "the dialect changed; asking anew")
        return await self._source.fetch(query)

    async def aclose(self) -> None:
        """Let go of what was chosen."""
        source, self._source, self.choice = self._source, None, None
        if source is not None:
            await source.aclose()

    async def _reconsider(self) -> None:
        """A shop that was half there for a moment is not seen with one eye for ever."""
        if self.choice is None or not BLIND_TO[self.choice.dialect]:
            return
        if self._clock() - self._chosen_at < RECONSIDER_S:
            return
        self._chosen_at = self._clock()
        dialects = list(self._openers)
        better = dialects[: dialects.index(self.choice.dialect)]
        if not better:
            return
        old = self._source
        try:
            await self._choose(better)
        except ShopPollerError:
            return
        if old is not None:
            await old.aclose()

    async def _choose(self, dialects: Sequence[Dialect]) -> None:
        """Keep to the first dialect that answers.

        Raises:
            TemporaryError, PermanentError: none does.
        """
        refused, errors = dict(self._missing), list[ShopPollerError]()
        for dialect in dialects:
            source = self._openers[dialect]()
            try:
                await _try(source)
            except ShopPollerError as error:
                await source.aclose()
                if error.kind not in NOT_HERE:
                    raise
                refused[dialect] = str(error)
                errors.append(error)
            else:
                self._source, self._chosen_at = source, self._clock()
                self.choice = _choice(dialect, first=not errors, refused=refused)
                self._on_choice(self.choice)
                return
        raise min(errors, key=lambda error: NOT_HERE.index(error.kind))


async def _try(source: Source) -> None:
    if isinstance(source, WooCommerceMcp | Abilities) and not await source.offered():
        raise PermanentError(ErrorKind.NOT_FOUND, "its MCP endpoint has no tool that lists orders")
    await source.fetch(PROBE)


def _choice(dialect: Dialect, *, first: bool, refused: Mapping[Dialect, str]) -> Choice:
    why = "it is the first that fits address and keys" if first else "those before it do not answer"
    return Choice(dialect, why, refused)
