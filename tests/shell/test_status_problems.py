"""When `status` says that a shop is not watched, or not polled, and why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.cli.status import Status
from shop_poller.core.errors import ErrorKind
from shop_poller.ports import PollFailure, ShopState, Stats

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NO_DAEMON = "no daemon watches this shop; start it with `shop-poller run`"
LATE = "the daemon runs, but no poll succeeded for too long"
FAILS = "polls fail since 2026-11-24T11:00:00.000Z: the shop answered 502"
WELL = Status(
    "honey",
    ShopState(NOW - timedelta(days=9), last_poll_at=NOW - timedelta(minutes=1)),
    Stats(known=0, set_aside=0, sinks={}),
    {}, {}, [], [], [],
    now=NOW,
    leader="process 7",
    interval_s=60.0,
)  # fmt: skip
FAILURE = PollFailure(ErrorKind.UNAVAILABLE, "the shop answered 502", NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("status", "problems"),
    [
        (WELL, []),
        (replace(WELL, leader=None), []),
        (replace(WELL, leader=""), [NO_DAEMON]),
        (replace(WELL, leader="", state=None), [NO_DAEMON]),
        (replace(WELL, failure=FAILURE), [FAILS]),
        (replace(WELL, failure=FAILURE, leader=""), [NO_DAEMON, FAILS]),
        (replace(WELL, now=NOW + timedelta(hours=1)), [LATE]),
        (replace(WELL, now=NOW + timedelta(hours=1), failure=FAILURE), [FAILS]),
        (replace(WELL, now=NOW + timedelta(hours=1), interval_s=3600.0), []),
        (replace(WELL, now=NOW + timedelta(hours=1), interval_s=0.0), []),
        (replace(WELL, state=ShopState(NOW - timedelta(minutes=1))), []),
        (replace(WELL, state=ShopState(NOW - timedelta(hours=1))), [LATE]),
        (replace(WELL, state=None), []),
    ],
)
def test_what_is_wrong(status: Status, problems: list[str]) -> None:
    assert status.problems == problems
    assert status.as_dict().get("problems", []) == problems
    assert ("polls_fail" in status.as_dict()) == (status.failure is not None)
