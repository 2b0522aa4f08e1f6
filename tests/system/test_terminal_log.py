"""`run` on a terminal: an order is one readable line, not three."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.commands import environment
from support.site import Site
from support.terminal import Terminal, terminal

TOLD = re.compile(r"№|order event|(?<!un)delivered")
ORDER_LINE = re.compile(r"\d\d:\d\d:\d\d \+ Новый заказ №\d+ .*")


@contextmanager
def on_a_terminal(site: Site, **changes: str) -> Iterator[Terminal]:
    env = {**environment(site.home, site.environment(**changes)), "TERM": "dumb", "PYTHONUTF8": "1"}
    with terminal([sys.executable, "-m", "shop_poller", "run"], home=site.home, env=env) as screen:
        screen.expect("started")
        yield screen


def lines_of_one_order(site: Site, screen: Terminal) -> list[str]:
    """What appears about one order, until the daemon stops."""
    site.polled()
    begin = len(screen.shown)
    site.shop.create_order("processing")
    screen.expect("Новый заказ №")
    site.polled(2)  # by then, the delivery is recorded
    screen.press(b"\x03")
    screen.expect("stopped")
    return [line for line in screen.shown[begin:].splitlines() if TOLD.search(line)]


def test_an_order_is_one_line(site: Site) -> None:
    with on_a_terminal(site, SHOP_NOTIFY_URLS="console:") as screen:
        (line,) = lines_of_one_order(site, screen)
    assert ORDER_LINE.fullmatch(line)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"SHOP_NOTIFY_URLS": "console:?events=new"}, 3),  # others would be nowhere
        ({"SHOP_NOTIFY_URLS": "console:", "SHOP_LOG_LEVEL": "debug"}, 3),
        ({"SHOP_NOTIFY_URLS": "console:", "SHOP_LOG_FORMAT": "json"}, 3),  # for a program
    ],
)
def test_the_log_has_its_lines_too_where_the_console_does_not_show_all(
    site: Site, changes: dict[str, str], count: int
) -> None:
    with on_a_terminal(site, **changes) as screen:
        found = lines_of_one_order(site, screen)
    assert len(found) == count
