"""The daemon for several shops: its room for files, and the signal that ends it."""

import resource
import signal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import structlog

from shop_poller.app import _files, _make_room, run_fleet
from shop_poller.roster import Roster
from support.armada import shops

pytestmark = pytest.mark.anyio


async def test_a_signal_stops_it_in_good_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop_poller.app.transport_class", lambda: httpx.AsyncHTTPTransport)
    fleet = [
        shops(
            number + 1,
            shop_state_url=f"sqlite:///{tmp_path}/{number}.db",
            shop_http_listen="127.0.0.1:0",
            shop_polling_enabled=False,
        )[number]
        for number in range(2)
    ]
    roster = Roster(tuple(fleet), "shop:polling:", from_tables=True)
    with anyio.fail_after(30), structlog.testing.capture_logs() as logs:
        await run_fleet(roster, on_listen=lambda _: signal.raise_signal(signal.SIGTERM))
    assert [log["event"] for log in logs if log["event"] in {"started", "stopped"}] == ["started", "stopped"]
    assert [log["fast"] for log in logs if log["event"] == "started"] == [False]


@pytest.mark.parametrize(
    ("state", "expected"), [("redis://127.0.0.1/0", 1 + 2 * 3), ("sqlite:///state.db", 1 + 2 * 3 + 4)]
)
def test_each_sender_of_each_sink_may_have_a_connection(state: str, expected: int) -> None:
    sinks = "https://one.example/a https://two.example/b"
    of_two, of_three = (
        _files(shops(count, shop_state_url=state, shop_notify_urls=sinks, shop_senders=3)) for count in (2, 3)
    )
    assert of_three - of_two == expected
    assert of_two > 2 * expected


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
