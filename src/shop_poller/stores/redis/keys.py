"""The names of the keys. docs/redis.md lists them. Keys of the earlier design keep their names."""

from collections.abc import Iterable
from dataclasses import dataclass

PER_LANE = ("outbox:due:", "outbox:age:", "delivered:by_age:", "dead_letters:by_age:")
"""The names of the keys that each sink has begin with these."""
LANE = "\x1f"
"""Separates shop, sink, key and number in the name of a delivery's place. No part contains it."""


def split_lanes(members: Iterable[str]) -> list[tuple[str, str]]:
    """Return shop and sink of each lane, from the members of `Keys.lanes`."""
    return [(shop, sink) for shop, _, sink in (member.partition(LANE) for member in members)]


@dataclass(frozen=True, slots=True)
class ShopKeys:
    """The keys that belong to one shop."""

    prefix: str

    @property
    def state(self) -> str:
        """Hash: the position of polling, and the revision of the last commit."""
        return f"{self.prefix}state"

    @property
    def last_poll_time(self) -> str:
        """String, from the earlier design: naive UTC of the last good poll."""
        return f"{self.prefix}last_poll_time"

    @property
    def known_orders(self) -> str:
        """Hash, from the earlier design: order id to status."""
        return f"{self.prefix}known_orders"

    @property
    def known_details(self) -> str:
        """Hash: order id to all other details, stamped with the status that they belong to."""
        return f"{self.prefix}known_details"

    @property
    def known_seen(self) -> str:
        """Sorted set: order ids by the last change of their record."""
        return f"{self.prefix}known_seen"

    @property
    def known_open(self) -> str:
        """Sorted set, by name: the ids of orders that may still change, with 19 digits."""
        return f"{self.prefix}known_open"

    @property
    def backfill(self) -> str:
        """Hash: the position of the last backfill."""
        return f"{self.prefix}backfill"

    @property
    def set_aside(self) -> str:
        """Hash: order id to the time and the reason why the order cannot be read."""
        return f"{self.prefix}set_aside"

    @property
    def alerts(self) -> str:
        """Hash: service to its raised alert."""
        return f"{self.prefix}alerts"


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys under one prefix.

    Attributes:
        prefix: the prefix of every key. On a Cluster it has a {hash tag}, so that all keys are in one slot.
        first_shop: the shop whose keys have no shop id in their names. The keys of other shops have one.
    """

    prefix: str
    first_shop: str

    def shop(self, shop_id: str) -> ShopKeys:
        """Return the keys of one shop."""
        return ShopKeys(self.prefix if shop_id == self.first_shop else f"{self.prefix}{shop_id}:")

    @property
    def lease(self) -> str:
        """String that expires: the nonce of the process that may write."""
        return f"{self.prefix}lease"

    @property
    def rows_set_aside(self) -> str:
        """Hash: place and name of each damaged row to a copy of it."""
        return f"{self.prefix}rows_set_aside"

    @property
    def outbox(self) -> str:
        """Hash: number to the delivery; also the last number, revisions, and the count of such fields."""
        return f"{self.prefix}outbox"

    @property
    def lines(self) -> str:
        """Sorted set, by name: every delivery in its line. A line is all deliveries of one key to a sink."""
        return f"{self.prefix}outbox:lines"

    @property
    def heads(self) -> str:
        """Hash: number of the head of each line to the time when it became head, and its failed attempts."""
        return f"{self.prefix}outbox:heads"

    @property
    def mending(self) -> str:
        """Hash: the position of a repair of the outbox's order, while it runs."""
        return f"{self.prefix}outbox:mending"

    @property
    def lanes(self) -> str:
        """Set: every shop and sink that has a waiting or finished delivery."""
        return f"{self.prefix}outbox:lanes"

    @property
    def dead_letters(self) -> str:
        """Hash: number to the dead letter, with the reason."""
        return f"{self.prefix}dead_letters"

    @property
    def delivered(self) -> str:
        """Hash: number to the completed delivery, without its body."""
        return f"{self.prefix}delivered"

    @property
    def texts(self) -> str:
        """Hash: number of a completed delivery to its body. It is separate so that lists need not read it."""
        return f"{self.prefix}delivered:texts"

    def due(self, sink: str) -> str:
        """Sorted set: numbers of heads by due time."""
        return f"{self.prefix}outbox:due:{sink}"

    def age(self, shop_id: str, sink: str) -> str:
        """Sorted set: numbers of waiting deliveries by creation time."""
        return f"{self.prefix}outbox:age:{shop_id}:{sink}"

    def delivered_by_age(self, shop_id: str, sink: str) -> str:
        """Sorted set: numbers of completed deliveries by the time of completion."""
        return f"{self.prefix}delivered:by_age:{shop_id}:{sink}"

    def dead(self, shop_id: str, sink: str) -> str:
        """Sorted set: numbers of dead letters by the time when they became dead letters."""
        return f"{self.prefix}dead_letters:by_age:{shop_id}:{sink}"

    def all(self, lanes: Iterable[tuple[str, str]]) -> list[str]:
        """Return every key of the first shop's state, whether it exists or not, except the lease.

        Args:
            lanes: shop and sink of every lane with deliveries, past or present.
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
        """Return the required type of each key with a fixed name: those of one shop and the shared ones."""
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
        """Return the sorted sets of one lane."""
        return [
            self.due(sink),
            self.age(shop_id, sink),
            self.delivered_by_age(shop_id, sink),
            self.dead(shop_id, sink),
        ]  # fmt: skip
