"""Tests of the shell run in virtual time."""

from typing import Any

import pytest

from support.virtual_time import VirtualTimeLoop


@pytest.fixture(scope="package")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
