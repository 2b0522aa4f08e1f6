"""`run --once`: a tick, delivery, a summary, and an exit code of its own for each trouble."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shop_poller.simulator import faults
from support.commands import COMMAND, environment, wait_until
from support.receivers import Post, receiving, reserved_port
from support.site import SHOP_ID, Site, site_at

STATE_FILES = {"shop-poller.db", "shop-poller.db-wal", "shop-poller.db.lock"}
"""What state consists of; the shared memory beside it is SQLite's scratch pad, where readers scribble too."""


def kept(site: Site) -> dict[str, tuple[bytes, int]]:
    """The files that the state consists of, as they are now."""
    return {name: file for name, file in site.files().items() if name in STATE_FILES}


def at_rest(site: Site) -> dict[str, tuple[bytes, int]]:
    """The same, unless the daemon wrote while a whole command took a look: after a poll it tidies up."""
    before = kept(site)
    site.status()
    return before if kept(site) == before else {}


def test_a_wrong_key_is_3_and_the_administrators_are_told(site: Site) -> None:
    done = site.once(WOOCOMMERCE_CONSUMER_SECRET="cs_wrong")
    assert done.code == 3
    (complaint,) = done.complaints
    assert complaint.startswith("shop-poller: the shop could not be read: the shop answered 401:")
    assert "check the consumer key and secret" in complaint
    assert done.lines == ["delivered 1, waiting 0, failed 0"]
    assert site.receiver.events == [(SHOP_ID, "unhealthy")]
    assert site.served.count("initialize") == 1, "it is not tried again"

    assert site.once(WOOCOMMERCE_CONSUMER_SECRET="cs_wrong").code == 3
    assert site.receiver.events == [(SHOP_ID, "unhealthy")], "an edge, not a repeat"
    assert site.once().code == 0
    assert site.receiver.events == [(SHOP_ID, "unhealthy"), (SHOP_ID, "recovered")]


def test_a_shop_that_is_down_is_3(site: Site) -> None:
    with reserved_port() as port:
        done = site.once(WOOCOMMERCE_MCP_URL=f"http://127.0.0.1:{port}/wp-json/woocommerce/mcp")
    assert done.code == 3
    (complaint,) = done.complaints
    assert complaint.startswith("shop-poller: the shop could not be read: no connection to the shop")
    assert done.lines == ["delivered 0, waiting 0, failed 0"]
    assert site.receiver.posts == []


def test_a_receiver_that_is_down_is_4_and_the_next_run_delivers(site: Site) -> None:
    order = site.shop.create_order("processing", total=1930)
    with reserved_port() as port:
        address = f"http://127.0.0.1:{port}/hook"
        done = site.once(SHOP_NOTIFY_URLS=address)
        assert (done.code, done.complaints) == (4, [])
        assert done.lines == [
            "read 1 orders, imported 0, found 1 events",
            "delivered 0, waiting 1, failed 0",
        ]
        (waiting,) = site.status()["sinks"].values()
        assert (waiting["waiting"], waiting["dead_letters"]) == (1, 0)
        (decided,) = (line for line in done.stderr.splitlines() if '"order event"' in line)

        with receiving(port) as receiver:
            again = site.once(SHOP_NOTIFY_URLS=address)
            assert again.lines == [
                "read 1 orders, imported 0, found 0 events",
                "delivered 1, waiting 0, failed 0",
            ]
            assert again.code == 0
            (post,) = receiver.posts
    assert (post.source_id, post.event) == (str(order), "new")
    assert post.event_id in decided


def test_a_receiver_that_broke_once_gets_it_within_the_same_run(site: Site) -> None:
    site.shop.create_order("processing")
    statuses = [500, 200]
    site.receiver.answer = lambda _: statuses.pop(0)
    assert site.once().lines[-1] == "delivered 1, waiting 0, failed 0"
    assert len(site.receiver.posts) == 2
    assert len(set(site.receiver.event_ids)) == 1
    assert site.receiver.posts[0].body == site.receiver.posts[1].body


def test_what_a_receiver_refuses_for_good_is_4_too(site: Site) -> None:
    order = site.shop.create_order("processing")
    site.receiver.answer = lambda _: 422
    done = site.once()
    # The order's event, and what tells of that: there is no other sink to tell it to.
    assert (done.code, done.last) == (4, "delivered 0, waiting 0, failed 2")
    (sink,) = site.status()["sinks"].values()
    assert (sink["waiting"], sink["dead_letters"]) == (0, 2)
    # What is dead stays dead, and is nothing to complain about twice.
    site.receiver.answer = lambda _: 200
    site.shop.refund(order)
    done = site.once()
    assert (done.code, done.last) == (0, "delivered 1, waiting 0, failed 0")
    assert site.receiver.story(order) == ["new", "refunded"]


def test_a_dead_receiver_holds_up_nobody(site: Site) -> None:
    order = site.shop.create_order("processing")
    with reserved_port() as port:
        done = site.once(SHOP_NOTIFY_URLS=f"http://127.0.0.1:{port}/dead {site.receiver.url} console:")
    assert (done.code, done.last) == (4, "delivered 2, waiting 1, failed 0")
    assert site.receiver.events == [(str(order), "new")]
    assert f"Новый заказ №{order}" in done.stdout


def test_a_state_in_use_is_5(site: Site) -> None:
    with site.daemon() as daemon:
        done = site.once()
        assert (done.code, done.stdout) == (5, "")
        (complaint,) = done.stderr.splitlines()
        assert f"{site.state} is in use by another shop-poller (process {daemon.pid})" in complaint
        assert "SHOP_STATE_URL" in complaint


def test_wrong_settings_are_2_all_of_them_named_at_once(site: Site) -> None:
    done = site.once(
        WOOCOMMERCE_MCP_URL="http://shop.example/wp-json/woocommerce/mcp",
        WOOCOMMERCE_CONSUMER_KEY=None,
        WOOCOMMERCE_CONSUMER_SECRET="cs_hush hush",
        SHOP_POLLING_INTERVAL="0.5",
        SHOP_STATE_URL="redis://:hush@localhost/zero",
        SHOP_NOTIFY_URLS="ftp://user:hush@example.com/",
        SHOP_HTTP_LISTEN="everywhere",
    )
    assert (done.code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert sorted(line.split(":")[1].strip() for line in lines) == [
        "SHOP_HTTP_LISTEN", "SHOP_NOTIFY_URLS", "SHOP_POLLING_INTERVAL", "SHOP_STATE_URL",
        "WOOCOMMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_SECRET", "WOOCOMMERCE_MCP_URL",
    ]  # fmt: skip
    assert "hush" not in done.stderr
    assert not site.state.parent.exists()


@pytest.mark.parametrize("args", [["run", "--dry-run"], ["run", "--never"], ["walk"], ["run", "--config"]])
def test_a_wrong_command_line_is_2(site: Site, args: list[str]) -> None:
    done = site.run(*args)
    assert (done.code, done.stdout) == (2, "")
    assert "Error" in done.stderr
    assert site.served.requests == []


def test_a_rehearsal_from_nothing_leaves_nothing(site: Site) -> None:
    order = site.shop.create_order("processing", total=1930)
    done = site.run("run", "--once", "--dry-run")
    assert (done.code, done.complaints) == (0, [])
    would, summary = done.lines
    assert would.startswith(f"would send to {site.receiver.url}: {{")
    assert f"Заказ #{order} на сумму 1930.00 ₽" in would
    assert summary == "read 1 orders, imported 0, found 1 events; changed nothing"
    assert site.receiver.methods == []
    assert not site.state.parent.exists()


def test_a_rehearsal_changes_nothing(site: Site) -> None:
    first = site.shop.create_order("processing")
    assert site.once().code == 0
    before = site.files()
    assert "shop-poller.db" in before

    site.shop.refund(first)
    second = site.shop.create_order("processing")
    for _ in range(2):
        done = site.run("run", "--once", "--dry-run")
        assert (done.code, done.last) == (0, "read 2 orders, imported 0, found 2 events; changed nothing")
        assert f"Оформлен возврат по заказу #{first}" in done.stdout
        assert f"Заказ #{second} на сумму" in done.stdout
    after = site.files()
    assert {name: after[name] for name in before} == before
    assert len(site.receiver.posts) == 1

    assert site.once().last == "delivered 2, waiting 0, failed 0"


def test_a_rehearsal_while_the_daemon_runs_changes_nothing(site: Site) -> None:
    with site.daemon(SHOP_POLLING_INTERVAL="3600"):
        site.polled()
        wait_until(lambda: site.status()["last_poll_at"], "the first good poll")
        order = site.shop.create_order("processing")
        before = wait_until(lambda: at_rest(site), "a daemon that has nothing left to write")
        assert set(before) == STATE_FILES
        done = site.run("run", "--once", "--dry-run")
        assert (done.code, done.complaints) == (0, [])
        assert f"Заказ #{order} на сумму" in done.stdout
        assert kept(site) == before
        assert site.receiver.methods == []


def test_a_rehearsal_says_why_the_shop_could_not_be_read(site: Site) -> None:
    done = site.run("run", "--once", "--dry-run", WOOCOMMERCE_CONSUMER_SECRET="cs_wrong")
    assert done.code == 3
    (complaint,) = done.complaints
    assert "check the consumer key and secret" in complaint
    assert site.receiver.methods == []
    assert not site.state.parent.exists()


def test_an_order_that_cannot_be_read_is_named_and_the_others_go_on(site: Site) -> None:
    broken = site.shop.create_order("processing")
    site.shop.distort(broken, faults.with_values(status=["много"]))
    good = site.shop.create_order("processing")
    done = site.once()
    assert done.code == 0
    assert site.receiver.events == [(str(good), "new")]
    status = site.status()
    assert list(status["set_aside"]) == [str(broken)]
    assert "status" in status["set_aside"][str(broken)]

    site.shop.distort(broken, None)
    assert site.once().code == 0
    assert site.receiver.events == [(str(good), "new"), (str(broken), "new")]
    assert site.status()["set_aside"] == {}


def test_two_shops_have_a_file_each(tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    with site_at(homes[0], SHOP_ID="one") as one, site_at(homes[1], SHOP_ID="two") as two:
        ids = {shop.shop.create_order("processing") for shop in (one, two)}
        assert len(ids) == 1
        assert (one.once().code, two.once().code) == (0, 0)
        assert len({post.event_id for post in [*one.receiver.posts, *two.receiver.posts]}) == 2


def test_an_order_that_its_receiver_cannot_process_delays_no_other(site: Site) -> None:
    """What one order's first event waits for, its second waits for, too; the others do not."""
    stuck = site.shop.create_order("processing", total=13)
    fine = site.shop.create_order("processing", total=14)
    site.shop.refund(stuck, 1)
    site.shop.refund(fine, 1)

    def chokes(post: Post) -> int:
        return 500 if post.source_id == str(stuck) else 200

    site.receiver.answer = chokes
    done = site.once()
    assert (done.code, done.last) == (4, "delivered 2, waiting 2, failed 0")
    assert site.receiver.story(fine) == ["new", "partially_refunded"]
    assert site.receiver.story(stuck) == ["new"]


def test_output_that_cannot_be_written_is_said_in_one_line(site: Site) -> None:
    site.shop.create_order("processing")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "run", "--once"],
            env=environment(site.home, site.environment()),
            cwd=site.home,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    complaints = [line for line in done.stderr.decode().splitlines() if not line.startswith("{")]
    assert (done.returncode, complaints) == (4, ["shop-poller: cannot print: No space left on device"])
    assert len(site.receiver.taken) == 1


def test_a_log_that_cannot_be_written_does_not_end_the_daemon(site: Site) -> None:
    with Path("/dev/full").open("wb") as full:
        daemon = subprocess.Popen(
            [COMMAND, "run"],
            env=environment(site.home, site.environment()),
            cwd=site.home,
            stdout=subprocess.DEVNULL,
            stderr=full,
        )
    try:
        site.polled(2)
        order = site.shop.create_order("processing")
        site.receiver.wait_for(1)
        daemon.terminate()
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait(30)
    assert site.receiver.story(order) == ["new"]


def test_polling_that_is_off_is_off_for_once_too(site: Site) -> None:
    site.shop.create_order("processing")
    done = site.once(SHOP_POLLING_ENABLED="false")
    assert (done.code, done.lines) == (
        0,
        [
            "polling is off (SHOP_POLLING_ENABLED=false)",
            "delivered 0, waiting 0, failed 0",
        ],
    )
    assert site.served.listings == []


def test_more_than_is_imported_at_once_is_imported_in_the_same_run(site: Site) -> None:
    made = datetime.now(UTC) - timedelta(days=2)
    for number in range(2_200):
        site.shop.create_order("processing", created=made - timedelta(seconds=number))
    assert "imported 2200" in site.once(SHOP_POLLING_INTERVAL="60").lines[0]
    assert site.status()["learning"] is None
