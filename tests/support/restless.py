"""Orders that wait for nobody: what is undone between two looks is not seen, but how it ended has to be."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from support.oracle import BAD_NEWS, is_paid
from support.site import Site

BEGINNINGS = ["pending", "on-hold", "processing"]
STATUSES = ["pending", "on-hold", "processing", "completed", "cancelled", "failed"]
ENDS = ["processing", "completed", "cancelled", "failed", "refunded"]
STEP_S = 0.7


@dataclass
class Batch:
    """Orders that change in the same moment, so that their dates of change are the same."""

    order_ids: list[int]
    steps_left: int
    due: float


class Restless:
    """Keeps some orders changing in a shop, whoever may be there to see it.

    Args:
        site: where it happens.
        random: what becomes of an order, and when.
        at_once: how many batches of orders are under way.
    """

    def __init__(self, site: Site, random: Random, *, at_once: int) -> None:
        self._site = site
        self._random = random
        self._at_once = at_once
        self._batches: list[Batch] = []
        self.lives: dict[int, list[str]] = {}

    def go_on(self, *, begin_more: bool = True) -> bool:
        """Let happen what is due; False when every order has come to its end."""
        now = time.monotonic()
        for batch in self._batches:
            if batch.due > now:
                continue
            batch.steps_left -= 1
            batch.due = now + self._random.expovariate(1 / STEP_S)
            for order_id in batch.order_ids:
                self._change_status(order_id, ENDS if batch.steps_left == 0 else STATUSES)
        self._batches = [batch for batch in self._batches if batch.steps_left]
        while begin_more and len(self._batches) < self._at_once:
            self._begin()
        return bool(self._batches)

    def untold(self) -> dict[int, tuple[list[str], list[str]]]:
        """The orders of which something is missing or wrong: by id what they were, and what was told."""
        found = {
            order_id: (life, self._site.receiver.story(order_id)) for order_id, life in self.lives.items()
        }
        return {order_id: (life, told) for order_id, (life, told) in found.items() if not fits(life, told)}

    def _begin(self) -> None:
        size, now = self._random.choice([1, 1, 2, 12]), time.monotonic()
        statuses = self._random.choices(BEGINNINGS, k=size)
        order_ids = [self._site.shop.create_order(status) for status in statuses]
        self.lives |= {order_id: [status] for order_id, status in zip(order_ids, statuses, strict=True)}
        steps_left = self._random.randint(1, 5)
        self._batches.append(Batch(order_ids, steps_left, now + self._random.expovariate(1 / STEP_S)))

    def _change_status(self, order_id: int, statuses: Sequence[str]) -> None:
        life = self.lives[order_id]
        status = self._random.choice([status for status in statuses if status != life[-1]])
        self._site.shop.set_status(order_id, status)
        life.append(status)


def fits(life: Sequence[str], told: Sequence[str]) -> bool:
    """Whether somebody who saw some of an order's statuses, the last one for sure, would tell just this.

    The rules are those of support.oracle; which of the statuses were seen is tried in all ways at once.
    """
    ways: set[tuple[str, bool, int]] = set()  # the status seen last, whether it was paid, how much was told
    for number, status in enumerate(life, 1):
        next_ways = {_sees(way, status, told) for way in [("", False, 0), *ways]}
        not_seen = ways if number < len(life) else set()
        ways = {way for way in next_ways if way is not None} | not_seen
    return any(count == len(told) for _, _, count in ways)


def _sees(way: tuple[str, bool, int], status: str, told: Sequence[str]) -> tuple[str, bool, int] | None:
    """Where a way leads when this status is seen; None if it tells what was not told."""
    known, paid, count = way
    event = None
    if status != known and status in BAD_NEWS:
        event = status
    elif status != known and is_paid(status) and not paid:
        event = "new"
    if event is not None:
        if told[count : count + 1] != [event]:
            return None
        count += 1
    return status, paid or is_paid(status) or status == "refunded", count
