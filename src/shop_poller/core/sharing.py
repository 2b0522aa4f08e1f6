"""How replicas share shops: who takes which, and who gives which away. Nobody decides for the others.

Each knows how many replicas there are, takes free shops up to its share, and gives away what is beyond it.
They rarely want the same shop: each prefers its own, by a hash (rendezvous). If two do, the lease decides.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b

MOST_AT_ONCE = 50
"""Shops that are taken or given away at a time: each has its state read and a last tick ended."""


def weight(replica: str, shop_id: str) -> int:
    """How much a replica is the one for a shop; the same for whoever computes it."""
    return int.from_bytes(blake2b(f"{replica}\n{shop_id}".encode(), digest_size=8).digest(), "big")


def share(shops: int, replicas: int) -> int:
    """The most shops that one of so many replicas watches; together they can watch all."""
    return -(-shops // max(1, replicas))


def to_take(
    replica: str, crew: Collection[str], *, shops: int, mine: int, free: Sequence[str]
) -> Sequence[str]:
    """The free shops that a replica takes now.

    Args:
        replica: that decides.
        crew: every replica, it too.
        shops: how many there are.
        mine: how many it has.
        free: those that nobody has.
    """
    room = min(share(shops, len(crew)) - mine, MOST_AT_ONCE)

    def preference(shop_id: str) -> tuple[int, int]:
        own = weight(replica, shop_id)
        better = sum(weight(other, shop_id) > own for other in crew if other != replica)
        return better, -own

    return sorted(free, key=preference)[: max(0, room)]


def to_give(replica: str, crew: Collection[str], *, shops: int, mine: Collection[str]) -> Sequence[str]:
    """The shops that a replica gives away now, since it has more than its share: those that suit it least."""
    beyond = min(len(mine) - share(shops, len(crew)), MOST_AT_ONCE)
    return sorted(mine, key=lambda shop_id: weight(replica, shop_id))[: max(0, beyond)]


def phase(shop_id: str) -> float:
    """Where in its interval a shop is polled, from 0 up to 1: spread evenly, the same on every replica."""
    return int.from_bytes(blake2b(shop_id.encode(), digest_size=6).digest(), "big") / 2**48
