"""The names of the keys. docs/redis.md lists them; those of the design before this one are kept."""

from collections.abc import Iterable
from dataclasses import dataclass

PER_LANE = ("outbox:due:", "outbox:age:", "delivered:by_age:", "dead_letters:by_age:")
"""How the names of those keys begin of which each sink has its own."""
LANE = "\x1f"
"""Separates shop, sink, key and number in what names a delivery's place; no name has it in it."""


def split_lanes(members: Iterable[str]) -> list[tuple[str, str]]:
    """Shop and sink of each lane, from the members of `Keys.lanes`."""
    return [(shop, sink) for shop, _, sink in (member.partition(LANE) for member in members)]


@dataclass(frozen=True, slots=True)
class ShopKeys:
    """What belongs to one shop."""

    prefix: str

    @property
    def state(self) -> str:
        """Hash: where polling stands, and the revision of the last commit."""
        return f"{self.prefix}state"

    @property
    def last_poll_time(self) -> str:
        """String, of old: naive UTC of the last good poll."""
        return f"{self.prefix}last_poll_time"

    @property
    def known_orders(self) -> str:
        """Hash, of old: order id to status."""
        return f"{self.prefix}known_orders"

    @property
    def known_details(self) -> str:
        """Hash: order id to what else is known, stamped with the status that it belongs to."""
        return f"{self.prefix}known_details"

    @property
    def known_seen(self) -> str:
        """Sorted set: order ids by when their record last changed."""
        return f"{self.prefix}known_seen"

    @property
    def known_open(self) -> str:
        """Sorted set, by name: ids, of nineteen digits, of orders that may still change."""
        return f"{self.prefix}known_open"

    @property
    def backfill(self) -> str:
        """Hash: how far the last backfill has come."""
        return f"{self.prefix}backfill"

    @property
    def set_aside(self) -> str:
        """Hash: order id to why it cannot be read."""
        return f"{self.prefix}set_aside"

    @property
    def alerts(self) -> str:
        """Hash: service to the alert that is raised."""
        return f"{self.prefix}alerts"


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys under one prefix.

    Attributes:
        prefix: of every key; on a Cluster it has a {hash tag}, so that all are in one slot.
        first_shop: its keys are named as ever; those of any other have its id in their name.
    """

    prefix: str
    first_shop: str

    def shop(self, shop_id: str) -> ShopKeys:
        """The keys of one shop."""
        return ShopKeys(self.prefix if shop_id == self.first_shop else f"{self.prefix}{shop_id}:")

    @property
    def lease(self) -> str:
        """String that expires: who has the right to write."""
        return f"{self.prefix}lease"

    @property
    def rows_set_aside(self) -> str:
        """Hash: place and name of each row that was damaged to a copy of it."""
        return f"{self.prefix}rows_set_aside"

    @property
    def outbox(self) -> str:
        """Hash: number to the delivery; also the last number given, revisions, and how many those are."""
        return f"{self.prefix}outbox"

    @property
    def lines(self) -> str:
        """Sorted set, by name: every delivery in its line, which is one of shop, sink and key."""
        return f"{self.prefix}outbox:lines"

    @property
    def heads(self) -> str:
        """Hash: number of the first of each line to since when it is that, and its failed attempts."""
        return f"{self.prefix}outbox:heads"

    @property
    def mending(self) -> str:
        """Hash: how far the outbox's order was made anew, while that is done."""
        return f"{self.prefix}outbox:mending"

    @property
    def lanes(self) -> str:
        """Set: every shop and sink that has a delivery, waiting or over."""
        return f"{self.prefix}outbox:lanes"

    @property
    def dead_letters(self) -> str:
        """Hash: number to the delivery that was given up, with the reason."""
        return f"{self.prefix}dead_letters"

    @property
    def delivered(self) -> str:
        """Hash: number to the delivery that was made, without its text."""
        return f"{self.prefix}delivered"

    @property
    def texts(self) -> str:
        """Hash: number of a delivery that was made to its text, apart so that lists need not read it."""
        return f"{self.prefix}delivered:texts"

    def due(self, sink: str) -> str:
        """Sorted set: numbers of heads by when they are due."""
        return f"{self.prefix}outbox:due:{sink}"

    def age(self, shop_id: str, sink: str) -> str:
        """Sorted set: numbers of deliveries by when they were made."""
        return f"{self.prefix}outbox:age:{shop_id}:{sink}"

    def delivered_by_age(self, shop_id: str, sink: str) -> str:
        """Sorted set: numbers of deliveries that were made, by when."""
        return f"{self.prefix}delivered:by_age:{shop_id}:{sink}"

    def dead(self, shop_id: str, sink: str) -> str:
        """Sorted set: numbers of dead letters by when they were buried."""
        return f"{self.prefix}dead_letters:by_age:{shop_id}:{sink}"

    def all(self, lanes: Iterable[tuple[str, str]]) -> list[str]:
        """Every key of the state of the first shop, whether it is there or not; without the lease.

        Args:
            lanes: the shop and the sink of each that ever had a delivery.
        """
        shop = self.shop(self.first_shop)
        keys = [
            shop.state, shop.last_poll_time, shop.known_orders, shop.known_details, shop.known_seen,
            shop.known_open, shop.backfill, shop.set_aside, shop.alerts, self.outbox, self.lines, self.heads,
            self.lanes, self.mending, self.dead_letters, self.delivered, self.texts, self.rows_set_aside,
        ]  # fmt: skip
        for shop_id, sink in lanes:
            keys += self.lane(shop_id, sink)
        return list(dict.fromkeys(keys))

    def types(self, shop_id: str) -> dict[str, str]:
        """The type that each key of fixed name must have, of one shop and of all that it shares."""
        shop = self.shop(shop_id)
        return {
            self.lease: "string",
            shop.last_poll_time: "string",
            shop.state: "hash",
            shop.known_orders: "hash",
            shop.known_details: "hash",
            shop.known_seen: "zset",
            shop.known_open: "zset",
            shop.set_aside: "hash",
            shop.alerts: "hash",
            shop.backfill: "hash",
            self.outbox: "hash",
            self.lines: "zset",
            self.heads: "hash",
            self.mending: "hash",
            self.lanes: "set",
            self.dead_letters: "hash",
            self.delivered: "hash",
            self.texts: "hash",
            self.rows_set_aside: "hash",
        }

    def lane(self, shop_id: str, sink: str) -> list[str]:
        """The sorted sets of one lane."""
        return [
            self.due(sink),
            self.age(shop_id, sink),
            self.delivered_by_age(shop_id, sink),
            self.dead(shop_id, sink),
        ]  # fmt: skip
