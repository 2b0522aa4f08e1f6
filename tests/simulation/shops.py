"""Shops that are legal, and yet do not do what one expects: what kind of shop a world has.

A share of the worlds has one or two of these kinds. `WEIGHTS` says how often each is chosen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, cast

from shop_poller.simulator import quirks
from shop_poller.simulator.adapters import AdapterVersion
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.faults import Fault
from shop_poller.simulator.listing import Paging
from shop_poller.simulator.site import Era

Kind: TypeAlias = Literal[
    "capped", "hidden", "doubled", "lenient", "older stamps", "updates", "sessions", "nginx", "era"
]

SHARE = 0.45
"""Of worlds whose shop is of one of the kinds."""

WEIGHTS: dict[Kind, int] = {
    "capped": 4,  # pages have fewer rows than were asked for
    "hidden": 3,  # orders are taken out of pages after the query, though counted
    "doubled": 2,  # a join finds each order several times
    "lenient": 4,  # JSON in forms of its own
    "older stamps": 4,  # changes are dated before the ones before them; the shop's clock is set
    "updates": 3,  # 503 with Retry-After: 600 for seconds
    "sessions": 3,  # a lost session shows in any of many ways
    "nginx": 2,  # 502 if the head of an answer is too long
    "era": 2,  # MCP with a newer adapter, or without sessions
}
SWITCHED_OFF: frozenset[Kind] = frozenset()
"""Kinds that the daemon cannot deal with yet."""
PAGING: tuple[Kind, ...] = ("capped", "hidden", "doubled")
OF_MCP: tuple[Kind, ...] = ("sessions", "era")

LENIENT_ANYWHERE = ("trailing junk", "orders as a map", "refunds as a map", "markup symbol", "odd paid dates")
LENIENT_MCP = ("structured list", "structured empty", "text only", "list as text", "id as text")

NGINX_BUFFER_BYTES = 2200
"""Smaller than a stock nginx's, since the worlds' ids are short and their crowds small: some 70 ids fit."""


@dataclass(frozen=True)
class ShopPlan:
    """What kind of shop a world has.

    Attributes:
        kinds: what it does; none if it is a shop as one expects it.
        cap: the most rows of a page.
        counts_as_requested: the number of pages is told as if there were no cap.
        rows_per_order: how often each order is found.
        lenient: the forms of its JSON, by names of ours.
        lost_session: how a lost session shows, see quirks.LOST_SESSIONS; "" is the adapter's own way.
        adapter: the version of the MCP adapter.
        era: which revisions of MCP it speaks.
    """

    kinds: frozenset[Kind] = frozenset()
    cap: int | None = None
    counts_as_requested: bool = False
    rows_per_order: int = 1
    lenient: tuple[str, ...] = ()
    lost_session: str = ""
    adapter: AdapterVersion = "0.3.0"
    era: Era = "sessions"

    @classmethod
    def of(cls, rng: Random, *, dialect: str, per_page: int) -> "ShopPlan":
        kinds = _kinds(rng, dialect, in_bulk=per_page > 5)
        forms = (*LENIENT_ANYWHERE, *(LENIENT_MCP if dialect == "woocommerce-mcp" else ()))
        cap = rng.choice([per_page // 2, per_page // 2 + 1, per_page - 1])
        counts_as_requested = rng.random() < 0.5
        lenient = tuple(rng.sample(forms, rng.choice([1, 1, 2])))
        lost_session = rng.choice([*quirks.LOST_SESSIONS])
        adapter, era = rng.choice(
            [("0.5.0", "sessions"), ("0.4.1", "sessions"), ("0.5.0", "stateless"), ("0.5.0", "both")]
        )
        return cls(
            kinds=kinds,
            cap=cap if "capped" in kinds else None,
            counts_as_requested=counts_as_requested,
            rows_per_order=rng.choice([2, 2, 3]) if "doubled" in kinds else 1,
            lenient=lenient if "lenient" in kinds else (),
            lost_session=lost_session if "sessions" in kinds else "",
            adapter=cast("AdapterVersion", adapter) if "era" in kinds else "0.3.0",
            era=cast("Era", era) if "era" in kinds else "sessions",
        )

    def set_up(self, endpoint: Endpoint) -> None:
        """Make a site such a shop; once more after its faults were cleared."""
        shop = endpoint.shop
        shop.paging = Paging(self.cap, self.counts_as_requested, shop.paging.hidden, self.rows_per_order)
        if "markup symbol" in self.lenient:
            shop.currency_symbol = quirks.MARKUP_SYMBOL
        endpoint.woocommerce_adapter, endpoint.era = self.adapter, self.era
        for fault in self._faults():
            endpoint.faults.add(fault)

    def _faults(self) -> Iterator[Fault]:
        """What was added first acts last on an answer."""
        if "trailing junk" in self.lenient:
            yield quirks.trailing_junk(quirks.JUNK[len(self.lenient)])
        if "id as text" in self.lenient:
            yield quirks.id_as_text()
        for name, make in {
            "structured list": quirks.structured_list,
            "structured empty": quirks.structured_empty,
            "text only": quirks.text_only,
            "list as text": quirks.list_as_text,
            "orders as a map": quirks.orders_as_map,
            "refunds as a map": quirks.refunds_as_map,
        }.items():
            if name in self.lenient:
                yield make()
        if self.lost_session:
            yield quirks.sessions_end_with(self.lost_session)
        if "nginx" in self.kinds:
            yield quirks.stock_nginx(NGINX_BUFFER_BYTES)


def _kinds(rng: Random, dialect: str, *, in_bulk: bool) -> frozenset[Kind]:
    """One or two kinds that go together, or none."""
    is_one, wanted = rng.random() < SHARE, rng.choice([1, 1, 2])
    possible = {
        kind: weight
        for kind, weight in WEIGHTS.items()
        if (kind not in OF_MCP or dialect == "woocommerce-mcp")
        and (kind != "nginx" or (dialect == "rest" and in_bulk))
    }
    chosen: set[Kind] = set()
    for _ in range(wanted):
        fitting = [kind for kind in possible if kind not in PAGING or not chosen.intersection(PAGING)]
        chosen.add(rng.choices(fitting, [possible[kind] for kind in fitting])[0])
    return frozenset(chosen) if is_one else frozenset()
