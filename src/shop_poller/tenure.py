"""All that works on one shop while the right to write is ours; made anew each time that it is won."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from shop_poller.dispatcher import Dispatcher
from shop_poller.ledger import Ledger
from shop_poller.poller import Poller


@dataclass(frozen=True, slots=True)
class Tenure:
    """A poller and a dispatcher for each sink, over one ledger."""

    poller: Poller
    ledger: Ledger
    dispatchers: Sequence[Dispatcher]

    def stop(self) -> None:
        """No new tick, no new claim."""
        self.poller.stop()
        for dispatcher in self.dispatchers:
            dispatcher.stop()

    async def deliver(self, *, until_idle: bool = False) -> None:
        """Run all dispatchers."""
        async with anyio.create_task_group() as tasks:
            for dispatcher in self.dispatchers:
                tasks.start_soon(partial(dispatcher.run, until_idle=until_idle))
