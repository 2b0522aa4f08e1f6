"""The demo's story: everything early, nothing private, the same again from the same seed."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from shop_poller.simulator.shop import SimulatedShop
from shop_poller.simulator.story import Story


class Stage:
    """A story on a clock of its own."""

    def __init__(self, seed: int) -> None:
        self.now = self.start = datetime(2026, 11, 23, 9, tzinfo=UTC)
        self.shop = SimulatedShop(lambda: self.now, rng=Random(seed))
        self.story = Story(self.shop, Random(seed))

    def play(self, until_s: float) -> list[str]:
        lines = []
        while (self.now - self.start).total_seconds() < until_s:
            lines.append(self.story.step())
            self.now += timedelta(seconds=self.story.pause_s)
        return lines


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_event_comes_within_twenty_seconds(seed: int) -> None:
    stage = Stage(seed)
    before = {order.id: order for order in stage.shop.orders}
    statuses: set[str] = set()
    while (stage.now - stage.start).total_seconds() < 18:  # two seconds are left to poll
        stage.story.step()
        for order in stage.shop.orders:
            known = before.get(order.id)
            if known is None or known.status != order.status:
                statuses.add(order.status)
            elif len(known.refunds) < len(order.refunds):
                statuses.add("partially refunded")
            before[order.id] = order
        stage.now += timedelta(seconds=stage.story.pause_s)
    assert statuses >= {
        "pending",
        "processing",
        "completed",
        "cancelled",
        "refunded",
        "failed",
        "partially refunded",
    }


def test_an_order_changes_at_most_once_a_second() -> None:
    stage = Stage(0)
    for _ in range(50):
        before = {order.id: order.modified for order in stage.shop.orders}
        stage.story.step()
        for order in stage.shop.orders:
            if order.id in before and order.modified != before[order.id]:
                assert order.modified - before[order.id] >= timedelta(seconds=1)
        stage.now += timedelta(seconds=stage.story.pause_s)


def test_there_are_older_orders_at_the_start() -> None:
    stage = Stage(0)
    ages = [stage.now - order.created for order in stage.shop.orders]
    assert max(ages) > timedelta(days=60)
    assert any(timedelta(days=1) < age < timedelta(days=2) for age in ages)
    assert min(ages) > timedelta(days=1)


def test_the_same_seed_tells_the_same_story() -> None:
    assert Stage(3).play(300) == Stage(3).play(300)
    assert Stage(3).play(300) != Stage(4).play(300)


def test_the_lines_name_nobody_and_no_contact() -> None:
    stage = Stage(1)
    text = " ".join(stage.play(3600))
    for order in stage.shop.orders:
        customer = order.customer
        for private in (customer.last_name, customer.email, customer.phone, customer.address_1):
            assert private not in text


def test_goes_on_for_hours_without_piling_up_open_orders() -> None:
    stage = Stage(2)
    stage.play(6 * 3600)
    waiting = [order for order in stage.shop.orders if order.status in ("pending", "processing")]
    assert len(waiting) <= 13
    assert all(order.refunded <= order.total for order in stage.shop.orders)
