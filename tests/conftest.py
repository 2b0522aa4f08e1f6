"""What all tests share: the event loop, how hard Hypothesis looks, and that Ctrl-C means what it does."""

import signal

import httpx
import pytest
from hypothesis import settings

from shop_poller import httpclient

# A shell starts what runs in its background with SIGINT ignored; every command of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine and at every run. To look for new ones, harder:
#     pytest tests/core --hypothesis-profile explore
settings.register_profile("steady", derandomize=True, max_examples=150, deadline=None)
settings.register_profile("explore", derandomize=False, max_examples=5000, deadline=None)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the default install has it; the extra `fast`, which is installed here, has tests of its own."""
    monkeypatch.setattr(httpclient, "transport_class", lambda: httpx.AsyncHTTPTransport)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
