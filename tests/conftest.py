"""What all tests share: the event loop, how hard Hypothesis looks, and that Ctrl-C means what it does."""

import signal

import pytest
from hypothesis import settings

# A shell starts what runs in its background with SIGINT ignored; every command of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine and at every run. To look for new ones, harder:
#     pytest tests/core --hypothesis-profile explore
settings.register_profile("steady", derandomize=True, max_examples=150, deadline=None)
settings.register_profile("explore", derandomize=False, max_examples=5000, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
