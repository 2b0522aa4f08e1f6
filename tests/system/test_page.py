"""The status page of a daemon that runs, `poll now` and `status --watch`: what one sees and does."""

import json
import signal
import sys
from collections.abc import Iterator

import httpx
import pytest

from shop_poller.simulator import faults
from support.commands import NO_FORK, NO_TLS, Running, started, wait_until
from support.receivers import reserved_port
from support.site import Site

TOKEN = "a-token-that-nobody-guesses"
MOST_MORE_MB = 3.0
"""What the page adds to the daemon's memory, once somebody looked."""


@pytest.fixture
def port(site: Site) -> Iterator[int]:
    """A port that a daemon can be told to listen on, and that nobody else takes."""
    with reserved_port() as number:
        site.settings |= {"SHOP_HTTP_LISTEN": f"127.0.0.1:{number}", "SHOP_ADMIN_TOKEN": TOKEN}
        yield number


def page(daemon: Running) -> str:
    answer = daemon.get("/?lang=en")
    assert answer.status_code == 200
    return answer.text


def act(daemon: Running, action: str, **fields: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {TOKEN}"}
    return httpx.post(
        f"{daemon.http}/actions/{action}", data=fields, headers=headers, trust_env=False, verify=NO_TLS
    )


def test_it_shows_how_it_goes_without_names_and_costs_little(site: Site) -> None:
    with site.daemon(before=NO_FORK) as daemon:
        site.shop.create_order("processing")
        post = site.receiver.wait_for(1)[0]
        site.polled(2)
        before = daemon.memory_mb()
        wait_until(lambda: ">delivered<" in page(daemon), "the delivery")
        shown = page(daemon)
        assert "All is well" in shown
        assert "New order" in shown
        customer = json.loads(post.body)["data"]["customer"]
        assert customer
        assert customer not in shown
        assert "Sign in" not in shown
        assert daemon.post("/actions/poll", b"", {}).status_code == 404
        for _ in range(100):
            page(daemon)
        more = daemon.memory_mb() - before
        sys.stdout.write(f"the page takes {more:.1f} MB more than {before:.1f} MB\n")
        assert more <= MOST_MORE_MB
        assert daemon.stop() == 0


def test_poll_now_polls_at_once(site: Site, port: int) -> None:
    assert port
    with site.daemon(SHOP_POLLING_INTERVAL="3600") as daemon:
        site.polled(1)
        wait_until(lambda: "in " in page(daemon).split("Next poll")[1][:40], "the rest until the next tick")
        site.shop.create_order("processing")
        done = site.run("poll", "now", WOOCOMMERCE_CONSUMER_KEY=None, WOOCOMMERCE_CONSUMER_SECRET=None)
        assert (done.code, done.stdout, done.stderr) == (0, "The shop is being polled.\n", "")
        site.receiver.wait_for(1)
        wrong = site.run("poll", "now", SHOP_ADMIN_TOKEN="another-token-of-16")
        assert (wrong.code, wrong.stdout) == (2, "")
        assert wrong.complaints == [
            "shop-poller: SHOP_ADMIN_TOKEN: is not the daemon's token; set both to the same value"
        ]
        assert TOKEN not in daemon.stderr


def test_poll_now_overrides_a_pause_that_the_shop_requested(site: Site, port: int) -> None:
    assert port
    with site.daemon(SHOP_POLLING_INTERVAL="5") as daemon:
        site.polled(1)
        site.served.faults.add(faults.rate_limited(900), times=1)
        wait_until(lambda: "15 min" in page(daemon).split("Next poll")[1][:60], "the pause")
        site.shop.create_order("processing")
        assert site.run("poll", "now").stdout == "The shop is being polled.\n"
        site.receiver.wait_for(1)


def test_poll_now_says_what_it_lacks(site: Site, port: int) -> None:
    nobody = site.run("poll", "now")
    assert nobody.code == 3
    (line,) = nobody.complaints
    assert line.startswith(f"shop-poller: no daemon answers at 127.0.0.1:{port}: ")
    assert line.endswith("; is it running?")

    no_token = site.run("poll", "now", SHOP_ADMIN_TOKEN=None)
    assert no_token.code == 2
    assert no_token.complaints[0].startswith("shop-poller: SHOP_ADMIN_TOKEN: is missing; ")

    no_listener = site.run("poll", "now", SHOP_ADMIN_TOKEN=None, SHOP_HTTP_LISTEN="")
    assert no_listener.code == 2
    assert no_listener.complaints[0].startswith("shop-poller: SHOP_HTTP_LISTEN: is empty")

    with site.daemon(SHOP_ADMIN_TOKEN=None):
        deaf = site.run("poll", "now")
        assert deaf.code == 2
        assert "started without SHOP_ADMIN_TOKEN" in deaf.complaints[0]
    with site.daemon(SHOP_POLLING_ENABLED="false"):
        off = site.run("poll", "now")
        assert off.code == 3
        assert "Polling is off" in off.complaints[0]


def test_a_dead_letter_is_sent_again_and_another_dropped(site: Site, port: int) -> None:
    assert port
    site.receiver.answer = lambda _: 422
    with site.daemon() as daemon:
        for _ in range(2):
            site.shop.create_order("processing")
        wait_until(lambda: page(daemon).count("<article>") == 3, "two dead letters, and that of telling so")
        dead_letters = site.status()["latest_dead_letters"]
        first, second, telling = sorted(letter["id"] for letter in dead_letters)
        site.receiver.answer = lambda _: 200
        assert act(daemon, "replay", seq=str(first)).status_code == 200
        assert act(daemon, "drop", seq=str(second)).status_code == 200
        assert act(daemon, "drop", seq=str(telling)).status_code == 200
        assert act(daemon, "drop", seq=str(second)).status_code == 409
        wait_until(lambda: "None: everything was delivered or is pending." in page(daemon), "no dead letter")


def test_status_is_watched_until_ctrl_c_without_the_keys_of_the_shop(site: Site) -> None:
    assert site.once().code == 0
    site.settings |= {"WOOCOMMERCE_CONSUMER_KEY": None, "WOOCOMMERCE_CONSUMER_SECRET": None}
    assert site.run("status").code == 3, "no daemon runs"
    with started(["status", "--watch"], home=site.home, env=site.environment()) as watch:
        wait_until(lambda: watch.stdout.count("last poll") >= 2, "a second look")
        assert watch.stop(signal.SIGINT) == 0
    assert "\x1b" not in watch.stdout
    assert watch.stderr == ""
    both = site.run("status", "--watch", "--json")
    assert both.code == 2
    assert "does not go with --json" in both.stderr
