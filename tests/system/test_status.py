"""`status`: where polling and deliveries stand, before, beside and after the daemon."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shop_poller.simulator import faults
from support.commands import wait_until
from support.receivers import Post, reserved_port
from support.site import SHOP_ID, Site

NO_DAEMON = "no daemon watches this shop; start it with `shop-poller run`"


def test_before_anything_there_is_no_state(site: Site) -> None:
    for args in (["status"], ["status", "--json"]):
        done = site.run(*args)
        assert (done.code, done.stdout) == (5, "")
        (complaint,) = done.stderr.splitlines()
        assert complaint == f"shop-poller: {site.state}: no state yet; `shop-poller run` makes it"
    assert not site.state.parent.exists()


def test_of_a_shop_that_was_never_polled(site: Site) -> None:
    assert site.once().code == 0
    done = site.run("status", SHOP_ID="another.example")
    assert done.code == 3
    assert done.lines == [
        "shop        another.example: never polled with this state",
        f"problem     {NO_DAEMON}",
    ]
    status = site.status(SHOP_ID="another.example")
    assert status == {
        "shop": "another.example",
        "started_at": None,
        "last_poll_at": None,
        "cursor_at": None,
        "baseline_at": None,
        "learning": None,
        "problems": [NO_DAEMON],
        "known_orders": 0,
        "set_aside": {},
        "rows_set_aside": [],
        "alerts": {},
        "quiet_until": {},
        "sinks": {},
        "latest_dead_letters": [],
        "latest_delivered": [],
    }


def test_while_the_daemon_runs(site: Site) -> None:
    site.shop.create_order("processing", created=datetime.now(UTC) - timedelta(days=1))
    with site.daemon() as daemon:
        site.shop.create_order("processing")
        site.receiver.wait_for(1)
        site.polled(2)
        status = site.status()
        done = site.run("status")
        later = wait_until(
            lambda: site.status()["last_poll_at"] > status["last_poll_at"], "its going on while one looks"
        )
        assert later
        assert daemon.logged("polling failed") == []
    assert status["shop"] == SHOP_ID
    now = datetime.now(UTC)
    last, cursor, baseline, started = (
        datetime.fromisoformat(status[name])
        for name in ("last_poll_at", "cursor_at", "baseline_at", "started_at")
    )
    assert timedelta(0) < now - last < timedelta(minutes=1)
    assert timedelta(0) < now - cursor < timedelta(minutes=1)
    assert abs(started - baseline - timedelta(hours=1)) < timedelta(seconds=10)
    assert (status["learning"], status["known_orders"]) == (None, 2)
    assert (status["set_aside"], status["alerts"], status["sinks"]) == ({}, {}, {})

    assert (done.code, done.stderr) == (0, "")
    words = {line[:12].strip(): line[12:] for line in done.lines}
    assert words["shop"] == SHOP_ID
    assert words["last poll"].endswith("seconds ago)")
    assert words["known"] == "2 orders"
    assert words["outbox"] == "empty"
    assert {"cursor", "watching"} < set(words)


def test_with_an_outbox_and_dead_letters(site: Site) -> None:
    orders = [site.shop.create_order("processing") for _ in range(3)]

    def answer(post: Post) -> int:
        return 422 if post.source_id == str(orders[0]) else 200

    site.receiver.answer = answer
    with reserved_port() as port:
        done = site.once(SHOP_NOTIFY_URLS=f"{site.receiver.url}#main http://127.0.0.1:{port}/#down")
    assert (done.code, done.last) == (4, "delivered 2, waiting 4, failed 1")

    sinks = site.status()["sinks"]
    assert set(sinks) == {"main", "down"}
    assert sinks["main"] == {"waiting": 0, "oldest_at": None, "dead_letters": 1}
    assert (sinks["down"]["waiting"], sinks["down"]["dead_letters"]) == (4, 0), "with the alert"
    age = datetime.now(UTC) - datetime.fromisoformat(sinks["down"]["oldest_at"])
    assert timedelta(0) < age < timedelta(minutes=1)
    lines = site.run("status").lines
    assert "outbox      main: 0 waiting, 1 dead letters" in lines
    (down,) = (line for line in lines if line.startswith("outbox      down: 4 waiting, oldest "))
    assert down.endswith(" seconds ago), 0 dead letters")
    (letter,) = (line for line in lines if line.startswith("dead letter "))
    assert letter.startswith(f"dead letter {orders[0]} shop.order.new to main, ")
    assert letter.endswith(": the receiver answered 422")
    status = site.status()
    assert status["alerts"] == {}, "that it was told is no alert"
    assert [one["reason"] for one in status["latest_dead_letters"]] == ["the receiver answered 422"]
    assert {one["key"] for one in status["latest_delivered"]} == {str(order) for order in orders[1:]}


def test_names_alerts_and_what_was_set_aside(site: Site) -> None:
    broken = site.shop.create_order("processing")
    site.shop.distort(broken, lambda order: {**order, "date_modified_gmt": "yesterday"})
    assert site.once().code == 0
    assert site.once(WOOCOMMERCE_CONSUMER_SECRET="cs_wrong").code == 3
    status = site.status()
    assert list(status["set_aside"]) == [str(broken)]
    assert status["alerts"][SHOP_ID]["error_type"] == "AuthenticationError"
    assert status["alerts"][SHOP_ID]["since"] == status["last_poll_at"]
    lines = site.run("status").lines
    assert any(line.startswith(f"set aside   order {broken}: date_modified_gmt") for line in lines)
    assert any(line.startswith(f"alert       {SHOP_ID}: AuthenticationError since ") for line in lines)


def test_that_polls_fail_or_the_daemon_does_not_run_is_told_with_the_reason_and_an_exit_code(
    site: Site,
) -> None:
    with site.daemon():
        site.polled()
        well = site.run("status")
        assert (well.code, [line for line in well.lines if line.startswith("problem")]) == (0, [])
        site.served.faults.add(faults.bad_gateway())
        failing = wait_until(lambda: _failing(site), "a failed poll")
        (problem,) = failing["problems"]
        assert failing["polls_fail"]["error_type"] == "UnavailableError"
        assert "502" in failing["polls_fail"]["error"]
        since = failing["polls_fail"]["since"]
        assert problem == f"polls fail since {since}: {failing['polls_fail']['error']}"
        told = site.run("status")
        assert (told.code, f"problem     {problem}" in told.lines) == (3, True)
        site.served.faults.clear()
        wait_until(lambda: not _failing(site), "a good poll")
        assert site.run("status").code == 0
    stopped = site.run("status")
    assert (stopped.code, f"problem     {NO_DAEMON}" in stopped.lines) == (3, True)


def _failing(site: Site) -> Any:
    status = site.status()
    return status if "polls_fail" in status else None
