"""How replicas share shops: who takes which, and who gives which away. Nobody decides for the others.

Each knows how many replicas there are, takes free shops up to its share, and gives away what is beyond it.
They rarely want the same shop: each prefers its own, by a hash (rendezvous). If two do, the lease decides.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b

MOST_AT_ONCE = 50
"""Shops that are given away, or taken where they are few, at a time: each has its state read and a last tick
ended."""
LOOKS = 4
"""A share of shops is taken in so many looks at most. Of two replicas one leaves half of it: that is taken
within two seconds after the leases ended."""

LEFT_S = 3.0
"""A shop that was free for so long is not about to be taken: all look every second, and who wanted another
one, which somebody else got, has seen that by then."""


def weight(replica: str, shop_id: str) -> int:
    """How much a replica is the one for a shop; the same for whoever computes it."""
    return int.from_bytes(blake2b(f"{replica}\n{shop_id}".encode(), digest_size=8).digest(), "big")


def share(shops: int, replicas: int) -> int:
    """The most shops that one of so many replicas watches; together they can watch all."""
    return -(-shops // max(1, replicas))


def at_once(own_share: int) -> int:
    """The most shops that a replica with such a share takes at a time."""
    return max(MOST_AT_ONCE, -(-own_share // LOOKS))


def to_take(
    replica: str, membership: Collection[str], *, shops: int, mine: int, free: Sequence[str]
) -> Sequence[str]:
    """The free shops that a replica takes now.

    Args:
        replica: that decides.
        membership: every replica, it too.
        shops: how many there are.
        mine: how many it has.
        free: those that nobody has.
    """
    own_share = share(shops, len(membership))
    room = min(own_share - mine, at_once(own_share))

    def preference(shop_id: str) -> tuple[int, int]:
        own = weight(replica, shop_id)
        better = sum(weight(other, shop_id) > own for other in membership if other != replica)
        return better, -own

    return sorted(free, key=preference)[: max(0, room)]


class Orphans:
    """Shops that nobody takes though all have their share: some replicas may not know them, or cannot watch.

    While the file is changed some know more shops than others, and reckon with other shares.
    """

    def __init__(self) -> None:
        self._free_since: dict[str, float] = {}

    def at(self, now_s: float, free: Collection[str]) -> list[str]:
        """Those that have been free for `LEFT_S`; none while shops are still being taken.

        Args:
            now_s: by any clock that only goes on.
            free: those that nobody has, as seen now.
        """
        are_taken = len(free) < len(self._free_since)
        self._free_since = {shop_id: self._free_since.get(shop_id, now_s) for shop_id in free}
        if are_taken:
            return []
        return [shop_id for shop_id, since_s in self._free_since.items() if now_s - since_s >= LEFT_S]


def to_give(replica: str, membership: Collection[str], *, shops: int, mine: Collection[str]) -> Sequence[str]:
    """The shops that a replica gives away now, since it has more than its share: those that suit it least."""
    beyond = min(len(mine) - share(shops, len(membership)), MOST_AT_ONCE)
    return sorted(mine, key=lambda shop_id: weight(replica, shop_id))[: max(0, beyond)]


def phase(shop_id: str) -> float:
    """Where in its interval a shop is polled, from 0 up to 1: spread evenly, the same on every replica."""
    return int.from_bytes(blake2b(shop_id.encode(), digest_size=6).digest(), "big") / 2**48
