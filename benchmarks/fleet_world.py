"""A thousand shops and one receiver, in a process of its own: they answer at once and remember who came when.

GET  /shop-7/wp-json/wc/v3/orders   what the shop is asked
POST /told                          a webhook
POST /orders?n=10                   so many paid orders, each of a shop by chance
GET  /report?interval=60            what came of it
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

from benchmarks.http import response, serve
from benchmarks.shop import ShownOrder, orders

ONE_TICK_S = 2.0
"""What a shop is asked within that is one tick: pages of one walk."""


@dataclass
class MetricsRegistry:
    """What a shop has, and when it was asked what changed."""

    orders: list[ShownOrder] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)


@dataclass
class World:
    """All of them."""

    shops: dict[str, MetricsRegistry] = field(default_factory=dict)
    placed: dict[tuple[str, int], float] = field(default_factory=dict)
    told: dict[tuple[str, int], float] = field(default_factory=dict)
    repeats: int = 0
    event_ids: set[str] = field(default_factory=set)
    next_id: int = 1000

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        """Answer any request."""
        parts = urlsplit(target)
        requested = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/told":
                self._tell(json.loads(body))
                return response(b"{}")
            case "/orders":
                self._place(int(requested["n"]))
                return response(b"{}")
            case "/report":
                return response(json.dumps(self.report(float(requested["interval"]))).encode())
        del method
        return self._listing(parts.path.split("/")[1], requested)

    def _listing(self, name: str, requested: dict[str, str]) -> bytes:
        shop = self.shops.setdefault(name, MetricsRegistry())
        shown: list[ShownOrder] = []
        if "modified_after" in requested:
            now = time.monotonic()
            is_walk = requested.get("orderby") == "modified"  # not what is learned of the past
            if is_walk and (not shop.ticks or now - shop.ticks[-1] > ONE_TICK_S):
                shop.ticks.append(now)
            without = set(requested.get("exclude", "").split(","))
            after = requested["modified_after"][:19]
            shown = [one for one in shop.orders if one.at > after and str(one.id) not in without]
        text = "[" + ",".join(one.shown for one in shown[: int(requested.get("per_page", 10))]) + "]"
        return response(text.encode(), headers=f"Date: {formatdate(usegmt=True)}\r\n")

    def _place(self, n: int) -> None:
        for name in random.choices(sorted(self.shops), k=n):  # noqa: S311 - a load, not a secret
            (order,) = orders(1, first_id=self.next_id, at=datetime.now(UTC))
            self.shops[name].orders.append(order)
            self.placed[name, self.next_id] = time.monotonic()
            self.next_id += 1

    def _tell(self, body: dict[str, object]) -> None:
        source_id = str(body["source_id"])
        self.repeats += str(body["event_id"]) in self.event_ids
        self.event_ids.add(str(body["event_id"]))
        order = int("".join(c for c in source_id.rpartition(":")[2] if c.isdigit()) or 0)
        for place in [place for place in self.placed if place[1] == order]:
            self.told.setdefault(place, time.monotonic())

    def report(self, interval_s: float) -> dict[str, object]:
        """What came of it: a shop is polled twice if two ticks are closer than half an interval."""
        now = time.monotonic()
        between = [
            b - a for shop in self.shops.values() for a, b in zip(shop.ticks, shop.ticks[1:], strict=False)
        ]
        waits = sorted(self.told[place] - at for place, at in self.placed.items() if place in self.told)
        return {
            "shops": len(self.shops),
            "ticks": sum(len(shop.ticks) for shop in self.shops.values()),
            "longest_gap_s": round(
                max([*between, *(now - s.ticks[-1] for s in self.shops.values() if s.ticks)]), 2
            ),
            "polled_twice": sum(gap < interval_s / 2 for gap in between),
            "placed": len(self.placed),
            "lost": sum(place not in self.told for place in self.placed),
            "repeats": self.repeats,
            "longest_wait_s": round(waits[-1], 1) if waits else None,
        }


async def main() -> None:
    """Serve until the end."""
    server = await serve(World().answer)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
