"""The ports to the outside: shops that are read, and receivers that are notified.

Every method raises core.errors.TemporaryError or PermanentError, and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.model import Delivery, Page, Query
from shop_poller.core.refunds import RefundPage, RefundQuery


class Source(Protocol):
    """A shop that can be asked."""

    @property
    def most_ids(self) -> int:
        """How many orders can be asked for by their ids at once."""
        ...

    async def fetch(self, query: Query) -> Page:
        """Ask once. A source does not retry, but for a session that was lost."""
        ...

    async def aclose(self) -> None:
        """Say goodbye to the shop and close connections; never raises."""
        ...


class RefundList(Protocol):
    """A shop's own list of refunds, by their dates; not every shop has one."""

    async def fetch(self, query: RefundQuery) -> RefundPage:
        """Ask once.

        Raises:
            PermanentError: the shop has no such list, or does not show it to us.
            TemporaryError: no answer, or none that is a list of refunds.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; never raises. It may be asked again."""
        ...


class Sink(Protocol):
    """Somebody to tell."""

    @property
    def name(self) -> str:
        """Names the sink in rows, logs and metrics: no secret in it, and stable when secrets change."""
        ...

    async def send(self, delivery: Delivery) -> None:
        """Deliver once; returning means that the receiver said yes. A sink does not retry."""
        ...

    async def check(self) -> str:
        """See whether deliveries would arrive, without making one.

        Returns:
            One line on what was found.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; never raises."""
        ...


@runtime_checkable
class BulkSink(Sink, Protocol):
    """A sink that takes many at the cost of one."""

    async def send_all(self, deliveries: Sequence[Delivery]) -> Sequence[ShopPollerError | None]:
        """Deliver each once, all at the same time; of different keys.

        Returns:
            For each None, the receiver said yes; or why it did not. What is raised goes for all.
        """
        ...
