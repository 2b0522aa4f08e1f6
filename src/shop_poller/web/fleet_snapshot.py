"""The data of the overview of several shops. runtime/fleet_overview.py provides them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Protocol

from shop_poller.core.messages import Locale
from shop_poller.web.snapshot import PageBackend, StatusSnapshot


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One of several shops.

    Attributes:
        shop: its id.
        name: for people.
        zone: the shop's time zone; None for that of this machine.
        snapshot: what the page of the shop would show, without its events; None if nothing was read yet.
        replica: who watches it, for people; "" for nobody, or if that is not known.
        orders: orders that were paid today; None if they are not counted yet.
        delivered: notifications that were delivered today; None if that is not known.
    """

    shop: str
    name: str
    tags: Sequence[str] = ()
    zone: tzinfo | None = None
    snapshot: StatusSnapshot | None = None
    replica: str = ""
    orders: int | None = None
    delivered: int | None = None


class FleetBackend(Protocol):
    """The daemon as the pages of several shops see it."""

    @property
    def shops(self) -> Collection[str]:
        """The ids of all shops in the settings."""
        ...

    async def rows(self) -> Sequence[FleetRow]:
        """Return all shops. The same object means: nothing was read meanwhile. Never raises."""
        ...

    async def backend(self, shop: str) -> PageBackend:
        """Return the data and the actions of a shop of the settings."""
        ...

    def is_here(self, shop: str) -> bool:
        """Return whether this process watches the shop, or waits for its lease."""
        ...

    def sinks(self, shop: str) -> Sequence[str]:
        """Return the names of a shop's sinks."""
        ...

    def locale(self, shop: str) -> Locale:
        """Return the language of a shop."""
        ...
