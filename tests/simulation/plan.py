"""What kind of world a seed makes: where state lies, who is told, which shop, and how fast things happen."""

from dataclasses import dataclass, replace
from random import Random

from simulation.network import MOODS, Mood
from simulation.shops import ShopPlan

IN_BULK = ("redis+stream://{}.example:6379/0?stream=orders", "redis://{}.example:6379/0?channel=orders")
ONE_BY_ONE = "https://{}.example/"
PER_PAGE, PER_PAGE_IN_BULK = 5, 25
NGINX_CROWD = 110


@dataclass(frozen=True)
class Emphasis:
    """What happens often in a world, so that a few worlds are enough to see what comes of it.

    Attributes:
        actions: half of what happens is one of these; names of methods of the world.
        moods: what receivers are like when they are not well.
        alone: nothing else happens.
        patience_s: how long after the last fault all has to have come right; less where little can go wrong.
    """

    actions: tuple[str, ...] = ()
    moods: tuple[Mood, ...] = MOODS
    alone: bool = False
    patience_s: float = 4 * 3600.0


AS_IT_COMES = Emphasis()


@dataclass(frozen=True)
class Plan:
    """What kind of world a seed makes.

    Attributes:
        on_redis: two daemons share a server; else one has a file.
        sinks: the receivers' addresses.
        crowd: how many orders are made at once, at most.
        actions: how many things befall it.
        gap_s: mean time between two of them.
        shop: what kind of shop it has.
    """

    on_redis: bool
    sinks: tuple[str, str]
    crowd: int
    dialect: str
    interval_s: int
    sweep_s: int
    skew_s: int
    overlap_s: int
    senders: int
    queue_size: int
    actions: int
    gap_s: float
    shop: ShopPlan

    @property
    def in_bulk(self) -> bool:
        """Whether one of the receivers takes many at once; then there are many."""
        return self.crowd > 12

    @property
    def per_page(self) -> int:
        """How many orders the daemon asks for at once."""
        return PER_PAGE_IN_BULK if self.in_bulk else PER_PAGE

    @classmethod
    def of(cls, rng: Random) -> "Plan":
        on_redis = rng.random() < 0.15
        slowly = not on_redis and rng.random() < 0.05  # hours, for which two replicas would renew a lease
        in_bulk = not slowly and rng.random() < 0.33
        kinds = rng.choice([IN_BULK, (IN_BULK[0], ONE_BY_ONE), (ONE_BY_ONE, IN_BULK[1])])
        sinks = kinds if in_bulk else (ONE_BY_ONE, ONE_BY_ONE)
        plan = cls(
            on_redis=on_redis,
            sinks=(sinks[0].format("a"), sinks[1].format("b")),
            crowd=rng.choice([20, 60]) if in_bulk else 12,
            dialect=rng.choice(["woocommerce-mcp", "rest", "rest"]),
            interval_s=600 if slowly else rng.choice([15, 60]),
            sweep_s=rng.choice([0, 0, 600]),
            skew_s=rng.choice([0, 0, 900]),
            overlap_s=rng.choice([10, 10, 120]),
            senders=rng.choice([1, 2, 8] if in_bulk else [1, 2, 3]),
            queue_size=rng.choice([1, 5, 100, 200] if in_bulk else [1, 2, 5]),
            actions=rng.randint(8, 15) if slowly else rng.randint(6, 18),
            gap_s=1800.0 if slowly else rng.choice([3.0, 10.0, 30.0]),
            shop=ShopPlan(),
        )
        shop = ShopPlan.of(rng, dialect=plan.dialect, per_page=plan.per_page)
        return replace(
            plan,
            shop=shop,
            # What is dated back is only found by sweeps.
            sweep_s=600 if "older stamps" in shop.kinds else plan.sweep_s,
            crowd=NGINX_CROWD if "nginx" in shop.kinds else plan.crowd,
        )
