"""Orders whose lives go on only after what happened last has arrived, so that all of it has to arrive."""

from random import Random

from support.site import Site

ENDS = {"cancelled": "cancelled", "failed": "failed", "refunded": "refunded", "completed": None}


class Plot:
    """Keeps some orders going in a shop.

    Polling does not show what is done and undone between two ticks. Here nothing is undone before its event
    was delivered. So the receiver gets all events of each order, in their order.

    Args:
        site: where it happens.
        random: what becomes of an order.
        at_once: how many orders are under way.
        set_back: the state may be one of earlier, so what was told since is told again, of today's orders.
    """

    def __init__(self, site: Site, random: Random, *, at_once: int, set_back: bool = False) -> None:
        self._site = site
        self._set_back = set_back
        self._random = random
        self._at_once = at_once
        self._plans: dict[int, list[str]] = {}
        self._expected: dict[int, list[str]] = {}

    @property
    def order_ids(self) -> set[int]:
        """All orders so far."""
        return {*self._expected}

    @property
    def finished(self) -> int:
        """How many orders have come to their end."""
        return len(self._expected) - len(self._plans)

    def go_on(self, *, begin_more: bool = True) -> bool:
        """Let happen what may; False when every order has come to its end."""
        for order_id, plan in list(self._plans.items()):
            if self._story(order_id) != self._expected[order_id]:
                continue
            if plan:
                self._step(order_id, plan.pop(0))
            else:
                del self._plans[order_id]
        while begin_more and len(self._plans) < self._at_once:
            self._begin()
        return bool(self._plans)

    def check(self) -> None:
        """Nothing was lost, nothing came out of turn, and a repeat has the bytes of the first time."""
        assert {order_id: self._story(order_id) for order_id in self._expected} == self._expected
        order_ids = {str(order_id) for order_id in self._expected}
        ours = [post for post in self._site.receiver.posts if post.source_id in order_ids]
        bodies = {post.event_id: post.body for post in ours}
        assert self._set_back or all(bodies[post.event_id] == post.body for post in ours)
        assert len(bodies) == sum(map(len, self._expected.values()))

    def _story(self, order_id: int) -> list[str]:
        receiver = self._site.receiver
        return receiver.first_story(order_id) if self._set_back else receiver.story(order_id)

    def _begin(self) -> None:
        shop = self._site.shop
        order_id = shop.create_order("processing", total=self._random.randint(500, 9000))
        refunds = ["partial"] * self._random.randint(0, 3)
        self._plans[order_id] = [*refunds, self._random.choice(list(ENDS))]
        self._expected[order_id] = ["new"]
        while len(self._plans[order_id]) > 1 and self._random.random() < 0.6:  # much at once, in its order
            self._step(order_id, self._plans[order_id].pop(0))

    def _step(self, order_id: int, action: str) -> None:
        shop = self._site.shop
        if action == "partial":
            shop.refund(order_id, self._random.randint(1, 99))
            self._expected[order_id].append("partially_refunded")
            return
        shop.set_status(order_id, action)
        told = ENDS[action]
        if told is not None:
            self._expected[order_id].append(told)
