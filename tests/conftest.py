"""What all tests share: the event loop, and how hard Hypothesis looks."""

import pytest
from hypothesis import settings

# The same examples on every machine and at every run. To look for new ones, harder:
#     pytest tests/core --hypothesis-profile explore
settings.register_profile("steady", derandomize=True, max_examples=150, deadline=None)
settings.register_profile("explore", derandomize=False, max_examples=5000, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
