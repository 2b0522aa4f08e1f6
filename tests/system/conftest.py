"""A site for every system test, and the stories that run beside them all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.site import Site, site_at
from support.stories import Stories


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path) as open_site:
        yield open_site


@pytest.fixture(scope="session", autouse=True)
def stories(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    wanted = {item.name for item in request.session.items}
    with ThreadPoolExecutor() as pool:
        yield Stories(pool, wanted, tmp_path_factory.mktemp)
