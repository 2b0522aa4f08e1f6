"""The daemon for several shops: its room for files, and the signal that ends it."""

import resource
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from shop_poller.app import _make_room, run_fleet
from shop_poller.roster import Roster
from support.armada import shops

pytestmark = pytest.mark.anyio


async def test_a_signal_stops_it_in_good_order(tmp_path: Path) -> None:
    fleet = [
        shops(
            number + 1,
            shop_state_url=f"sqlite:///{tmp_path}/{number}.db",
            shop_http_listen="127.0.0.1:0",
            shop_polling_enabled=False,
        )[number]
        for number in range(2)
    ]
    with anyio.fail_after(30):
        await run_fleet(
            Roster(tuple(fleet), "shop:polling:", from_tables=True),
            on_listen=lambda _: signal.raise_signal(signal.SIGTERM),
        )


@pytest.mark.parametrize(
    ("limits", "wanted", "set_to", "warned"),
    [
        ((1024, 4096), 500, None, False),
        ((1024, 4096), 3000, (3000, 4096), False),
        ((1024, 4096), 9000, (4096, 4096), True),
        ((1024, resource.RLIM_INFINITY), 9000, (9000, resource.RLIM_INFINITY), False),
    ],
)
async def test_there_is_room_for_as_many_files_as_the_shops_need(
    monkeypatch: pytest.MonkeyPatch, limits: Any, wanted: int, set_to: Any, *, warned: bool
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: made.append(limit))
    with structlog.testing.capture_logs() as logs:
        _make_room(wanted, structlog.get_logger())
    assert made == ([] if set_to is None else [set_to])
    assert [log["log_level"] for log in logs] == (["warning"] if warned else [])
