"""How replicas share shops: which replica takes which shop, and which releases one. No replica is in charge.

Each replica knows how many replicas there are, takes free shops up to its share, and releases the shops
beyond it. Two replicas rarely choose the same shop: each prefers its own, by a hash (rendezvous). If they
do, the lease decides.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b

MOST_AT_ONCE = 50
"""The most shops to release at a time; a replica may always take this many at a time. For each shop, state is
read and a last tick ends."""
LOOKS = 4
"""A share is taken in this many rounds at most. If one of two replicas leaves, the other takes its shops
within two seconds after their leases end."""

LEFT_S = 3.0
"""A shop that was free for this long is not about to be taken. All replicas look every second. By then, a
replica that tried to get another shop, and failed, has noticed it."""


def weight(replica: str, shop_id: str) -> int:
    """Return how strongly a replica prefers a shop; every replica computes the same number."""
    return int.from_bytes(blake2b(f"{replica}\n{shop_id}".encode(), digest_size=8).digest(), "big")


def share(shops: int, replicas: int) -> int:
    """Return the most shops that one of so many replicas watches; together they can watch all."""
    return -(-shops // max(1, replicas))


def at_once(own_share: int) -> int:
    """Return the most shops that a replica with such a share takes at a time."""
    return max(MOST_AT_ONCE, -(-own_share // LOOKS))


def to_take(
    replica: str, membership: Collection[str], *, shops: int, mine: int, free: Sequence[str]
) -> Sequence[str]:
    """Return the free shops that a replica takes now.

    Args:
        replica: the replica that decides.
        membership: all replicas, including this one.
        shops: how many shops there are.
        mine: how many shops this replica has.
        free: the shops that no replica has.
    """
    own_share = share(shops, len(membership))
    room = min(own_share - mine, at_once(own_share))

    def preference(shop_id: str) -> tuple[int, int]:
        own = weight(replica, shop_id)
        better = sum(weight(other, shop_id) > own for other in membership if other != replica)
        return better, -own

    return sorted(free, key=preference)[: max(0, room)]


class Orphans:
    """Shops that no replica takes although all have their share.

    Some replicas may not know them, or cannot watch them. While the file of shops changes, some replicas know
    more shops than others and compute other shares.
    """

    def __init__(self) -> None:
        self._free_since: dict[str, float] = {}

    def free_for_long(self, now_s: float, free: Collection[str]) -> list[str]:
        """Return the shops that have been free for `LEFT_S`; none while shops are still being taken.

        Args:
            now_s: the current time of any monotonic clock.
            free: the shops that no replica has now.
        """
        are_taken = len(free) < len(self._free_since)
        self._free_since = {shop_id: self._free_since.get(shop_id, now_s) for shop_id in free}
        if are_taken:
            return []
        return [shop_id for shop_id, since_s in self._free_since.items() if now_s - since_s >= LEFT_S]


def to_give(replica: str, membership: Collection[str], *, shops: int, mine: Collection[str]) -> Sequence[str]:
    """Return the shops beyond its share that a replica releases now: those that it prefers least."""
    beyond = min(len(mine) - share(shops, len(membership)), MOST_AT_ONCE)
    return sorted(mine, key=lambda shop_id: weight(replica, shop_id))[: max(0, beyond)]


def phase(shop_id: str) -> float:
    """Return a shop's point in its interval, from 0 up to 1: spread evenly, the same on every replica."""
    return int.from_bytes(blake2b(shop_id.encode(), digest_size=6).digest(), "big") / 2**48
