"""What takes long and hardly any work: told in threads, beside the other tests, and judged by theirs."""

import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from shop_poller.simulator import faults
from support.commands import NO_TLS, Running, started, wait_until
from support.examples import DEMO
from support.receivers import Receiver
from support.site import site_at

T = TypeVar("T")


class Stories:
    """Stories that were begun in good time, by name.

    Args:
        pool: where they run.
        wanted: the names of those worth beginning.
        directory: makes a directory for one.
    """

    def __init__(self, pool: ThreadPoolExecutor, wanted: set[str], directory: Callable[[str], Path]) -> None:
        self._begun: dict[object, Future[object]] = {
            story: pool.submit(story, directory(test)) for test, story in STORIES.items() if test in wanted
        }

    def end_of(self, story: Callable[[Path], T]) -> T:
        """How a story ended; waits for that."""
        end: T = self._begun[story].result()  # type: ignore[assignment] # it is the story's own type
        return end


@dataclass(frozen=True)
class Demo:
    """A demo that was watched from its start to its end."""

    code: int
    stdout: str
    stderr: str
    metrics: httpx.Response
    health: httpx.Response
    still_listens: bool
    left_behind: list[Path]


def watched_demo(home: Path) -> Demo:
    """Run the example of `demo --help` to its end, in Russian, and look at its metrics meanwhile."""
    _, *args = DEMO.split()
    with started(args, home=home, env={"SHOP_LOCALE": "ru"}) as demo:
        metrics = httpx.get(address_in(demo, "Метрики"), timeout=30, trust_env=False, verify=NO_TLS)
        wait_until(lambda: "\n    " in demo.stdout, "the first event")  # by then its senders have started
        health = httpx.get(address_in(demo, "Проверка"), timeout=30, trust_env=False, verify=NO_TLS)
        code = demo.wait(within_s=60)
    try:
        httpx.get(str(metrics.url), timeout=30, trust_env=False, verify=NO_TLS)
        still_listens = True
    except httpx.ConnectError:
        still_listens = False
    left_behind = [
        path for path in home.rglob("*") if path.is_file() and path.suffix not in {".stdout", ".stderr"}
    ]
    return Demo(code, demo.stdout, demo.stderr, metrics, health, still_listens, left_behind)


def address_in(demo: Running, what: str) -> str:
    """The address of something, as the demo prints it."""
    found = wait_until(lambda: re.search(rf"{what}: (http://\S+)", demo.stdout), f"the address of {what}")
    assert found
    return found[1]


@dataclass(frozen=True)
class HeldUp:
    """How a daemon ended whose shop and receiver both hung, and what came of the order in its hand."""

    code: int
    took_s: float
    last_logged: str
    order: int
    next_run: str
    receiver: Receiver


def held_up_daemon(home: Path) -> HeldUp:
    """End a daemon in the middle of a request to the shop and of a delivery, neither of which is answered."""
    with site_at(home) as site:
        order = site.shop.create_order("processing")
        site.receiver.answer = site.receiver.hang
        with site.daemon(SHOP_SWEEP_INTERVAL="0") as daemon:  # its request would be the one that hangs
            wait_until(lambda: site.receiver.posts, "a notification")
            site.served.faults.add(faults.slow(3600))
            site.polled()
            began = time.monotonic()
            code = daemon.stop(within_s=60)
            took_s = time.monotonic() - began
        site.served.faults.clear()
        site.receiver.answer = lambda _: 200
        next_run = site.once().last
        return HeldUp(code, took_s, daemon.log[-1]["event"], order, next_run, site.receiver)


STORIES: dict[str, Callable[[Path], object]] = {
    "test_every_kind_of_event_comes_word_by_word": watched_demo,
    "test_a_shop_and_a_receiver_that_hang_hold_up_the_end_for_so_long_and_no_longer": held_up_daemon,
}
"""By the name of the test that wants to know how it ended."""
