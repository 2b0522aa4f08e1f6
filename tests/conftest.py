"""What all tests share: the event loop, how hard Hypothesis looks, and that Ctrl-C means what it does."""

import signal
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from shop_poller.http import client

# A shell starts what runs in its background with SIGINT ignored; every command of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# And `nohup` has SIGHUP ignored.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples on every machine and at every run. To look for new ones, harder:
#     pytest tests/core --hypothesis-profile explore
settings.register_profile("steady", derandomize=True, max_examples=150, deadline=None)
settings.register_profile("explore", derandomize=False, max_examples=5000, deadline=None)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the default install has it; the extra `fast`, which is installed here, has tests of its own."""
    monkeypatch.setattr(client, "transport_class", lambda: httpx.AsyncHTTPTransport)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests of real processes, which mostly wait, among those that calculate.

    One after the other at the end, they would leave the cores idle. Files stay together: a server is
    started once for all tests of a file.
    """
    system = Path(__file__).parent / "system"
    by_file = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    waiting = [tests for tests in by_file if tests[0].path.is_relative_to(system)]
    calculating = [tests for tests in by_file if not tests[0].path.is_relative_to(system)]
    items[:] = _spread(waiting, calculating)


def _spread(some: Sequence[list[pytest.Item]], others: Sequence[list[pytest.Item]]) -> Iterator[pytest.Item]:
    """Both, so that after a part of the others the same part of `some` has come."""
    total, passed, spread = sum(map(len, others)), 0, 0
    for tests in others:
        yield from tests
        passed += len(tests)
        while spread < len(some) * passed / total:
            yield from some[spread]
            spread += 1
    for tests in some[spread:]:
        yield from tests
