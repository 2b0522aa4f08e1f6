"""The ports to the outside: shops to read, and receivers to notify.

Every method raises core.errors.TemporaryError or PermanentError, and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.model import Delivery, Page, Query
from shop_poller.core.refunds import RefundPage, RefundQuery


class Source(Protocol):
    """A shop that can be read."""

    @property
    def most_ids(self) -> int:
        """The most orders that one request can name by id."""
        ...

    async def fetch(self, query: Query) -> Page:
        """Send one request and return the page. A source does not retry, except after a lost session."""
        ...

    async def aclose(self) -> None:
        """End the session with the shop and close connections; never raises."""
        ...


class RefundList(Protocol):
    """A shop's own list of refunds, by their dates. Not every shop has one."""

    async def fetch(self, query: RefundQuery) -> RefundPage:
        """Send one request and return the page.

        Raises:
            PermanentError: the shop has no such list, or refuses access to it.
            TemporaryError: no answer, or one that is not a list of refunds.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; never raises. It can be used again afterwards."""
        ...


class Sink(Protocol):
    """A receiver of notifications."""

    @property
    def name(self) -> str:
        """The name in rows, logs and metrics: contains no secret, and is stable when secrets change."""
        ...

    async def send(self, delivery: Delivery) -> int | None:
        """Send the delivery once. A return means that the receiver accepted it. A sink does not retry.

        Returns:
            The HTTP status of the response; None if the sink does not use HTTP.
        """
        ...

    async def check(self) -> str:
        """Check whether deliveries would arrive, without sending one.

        Returns:
            The result in one line.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; never raises."""
        ...


@runtime_checkable
class BulkSink(Sink, Protocol):
    """A sink that accepts many deliveries at the cost of one."""

    async def send_all(self, deliveries: Sequence[Delivery]) -> Sequence[ShopPollerError | None]:
        """Send deliveries of different keys, each once, all at the same time.

        Returns:
            For each delivery: None if the receiver accepted it, else the error. A raised error holds for all.
        """
        ...
