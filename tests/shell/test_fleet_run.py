"""The daemon for one shop and for several: what differs, its room for files, and the signal that ends it."""

import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import anyio
import httpx
import pytest
import structlog

from shop_poller.config.shops import ShopsConfig
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.runtime.app import _files, _make_room, run
from shop_poller.stores.sqlite import SqliteStore
from support.fleet_harness import shops

pytestmark = pytest.mark.anyio


def of_files(tmp_path: Path, count: int) -> ShopsConfig:
    fleet = [
        shops(
            number + 1,
            shop_state_url=f"sqlite:///{tmp_path}/{number}.db",
            shop_http_listen="127.0.0.1:0",
            shop_polling_enabled=False,
        )[number]
        for number in range(count)
    ]
    return ShopsConfig(tuple(fleet), "shop:polling:", from_tables=count > 1)


@pytest.fixture
def sigint_as_it_was() -> Iterator[None]:
    """After a signal the kernel's own actions stay in force, since the process is about to end."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_as_it_was")
async def test_a_signal_stops_it_in_good_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop_poller.runtime.app.transport_class", lambda: httpx.AsyncHTTPTransport)
    with anyio.fail_after(30), structlog.testing.capture_logs() as logs:
        await run(of_files(tmp_path, 2), on_listen=lambda _: signal.raise_signal(signal.SIGTERM))
    assert [log["event"] for log in logs if log["event"] in {"started", "stopped"}] == ["started", "stopped"]
    assert [log["fast"] for log in logs if log["event"] == "started"] == [False]


def beyond_use(*_: object) -> NoReturn:
    raise PermanentError(ErrorKind.STORE, "made up: damaged")


def broken(*_: object) -> NoReturn:
    raise ZeroDivisionError


@pytest.mark.usefixtures("sigint_as_it_was")
@pytest.mark.parametrize("moment", ["open", "take"])
async def test_one_shop_whose_state_cannot_be_used_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(SqliteStore, moment, beyond_use)
    with anyio.fail_after(30), structlog.testing.capture_logs() as logs, pytest.raises(PermanentError):
        await run(of_files(tmp_path, 1))
    assert [log["event"] for log in logs if log["event"] in {"started", "stopped"}] == (
        ["started"] if moment == "take" else []
    )


@pytest.mark.usefixtures("sigint_as_it_was")
async def test_a_bug_with_one_shop_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteStore, "take", broken)
    with anyio.fail_after(30), pytest.raises(ExceptionGroup) as raised:
        await run(of_files(tmp_path, 1))
    assert raised.group_contains(ZeroDivisionError)


@pytest.mark.usefixtures("sigint_as_it_was")
@pytest.mark.parametrize("trouble", [beyond_use, broken])
async def test_trouble_with_all_of_several_shops_does_not_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., NoReturn]
) -> None:
    stop, taken = anyio.Event(), []

    def take(store: SqliteStore) -> NoReturn:
        taken.append(store)
        if len(taken) == 2:
            stop.set()
        trouble()

    monkeypatch.setattr(SqliteStore, "take", take)
    with anyio.fail_after(30), structlog.testing.capture_logs() as logs:
        await run(of_files(tmp_path, 2), stop=stop)
    assert [log["event"] for log in logs if log["event"] in {"started", "stopped"}] == ["started", "stopped"]
    assert len([log for log in logs if log["log_level"] == "error"]) == 2


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
    ("limits", "wanted", "at_least", "set_to", "warned"),
    [
        ((1024, 4096), 500, 0, None, False),
        ((1024, 4096), 3000, 0, (3000, 4096), False),
        ((1024, 4096), 9000, 0, (4096, 4096), True),
        ((1024, resource.RLIM_INFINITY), 9000, 0, (9000, resource.RLIM_INFINITY), False),
        ((1024, 9000), 500, 4096, (4096, 9000), False),
        ((1024, 9000), 5000, 4096, (5000, 9000), False),
        ((1024, 2000), 500, 4096, (2000, 2000), False),
        ((5000, 9000), 500, 4096, None, False),
    ],
)
async def test_there_is_room_for_as_many_files_as_the_shops_need(
    monkeypatch: pytest.MonkeyPatch, limits: Any, wanted: int, at_least: int, set_to: Any, *, warned: bool
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: made.append(limit))
    with structlog.testing.capture_logs() as logs:
        _make_room(wanted, structlog.get_logger(), at_least=at_least)
    assert made == ([] if set_to is None else [set_to])
    assert [log["log_level"] for log in logs] == (["warning"] if warned else [])
