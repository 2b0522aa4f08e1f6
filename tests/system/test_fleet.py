"""Several shops by the real command: one process over files, two over a real Valkey."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.web.hooks import PATH
from support.commands import Running, wait_until
from support.hooks import headers
from support.receivers import reserved_port
from support.redis_server import redis_server
from support.simulated import RunningShop, shop_in_thread
from support.site import Site

NAMES = ("honey", "tea", "bread")
PROMISE_S = 16.0
"""A second, and what a killed replica may cost."""


@pytest.fixture
def shops(site: Site) -> Iterator[dict[str, RunningShop]]:
    """Three shops, and a file that names them."""
    with ExitStack() as stack:
        served = {"honey": site.served, **{name: stack.enter_context(shop_in_thread()) for name in NAMES[1:]}}
        site.name_shops({name: shop.url for name, shop in served.items()})
        yield served


def test_three_shops_are_watched_by_one_process(site: Site, shops: dict[str, RunningShop]) -> None:
    with site.start("run", "--config", "shops.toml") as daemon:
        daemon.wait_for("started")
        for shop in shops.values():
            shop.shop.create_order("processing")
        site.receiver.wait_for(3)
        assert daemon.get("/healthz").json() == {"status": "healthy", "shops": "3 of 3"}
        assert daemon.get("/readyz").status_code == 200
        assert 'shop_lease_held{shop="tea"} 1.0' in daemon.get("/metrics").text
        assert daemon.stop() == 0
        assert not daemon.logged("internal error (bug): please report it; retrying")
    assert {path.name for path in (site.home / "state" / "shop-poller.db.shops").glob("*.db")} == {
        f"{name}.db" for name in NAMES
    }
    assert DEMO_KEY.consumer_secret not in daemon.stderr

    listed = site.run("shops", "list", "--config", "shops.toml", "--json")
    found = [json.loads(line) for line in listed.lines]
    assert [one["shop"] for one in found] == list(NAMES)
    assert all(one["last_poll_at"] and not one["trouble"] for one in found)
    one = site.run("status", "--config", "shops.toml", "--shop", "tea", "--json")
    assert json.loads(one.stdout)["known_orders"] == 1
    missing = site.run("dead", "list", "--config", "shops.toml")
    assert (missing.code, missing.complaints) == (
        2,
        [
            "shop-poller: there are 3 shops (honey, tea, bread); choose some by --shop or --tag,"
            " or all by --all"
        ],
    )


def test_a_webhook_reaches_its_shop_by_the_secret_of_that_shop(
    site: Site, shops: dict[str, RunningShop]
) -> None:
    config = site.home / "shops.toml"
    text = config.read_text(encoding="utf-8")
    for name in NAMES:
        line = f'shop_id = "{name}"'
        text = text.replace(line, f'{line}\nshop_webhook_secret = "the secret of {name}"')
    config.write_text(text, encoding="utf-8")
    body = b'{"id": 1}'
    site.settings |= {"SHOP_POLLING_INTERVAL": "3600", "SHOP_SWEEP_INTERVAL": "0"}
    with site.start("run", "--config", "shops.toml") as daemon:
        daemon.wait_for("started")
        wait_until(lambda: 'shop_lease_held{shop="tea"} 1.0' in daemon.get("/metrics").text, "a lease")
        order = shops["tea"].shop.create_order("processing")
        signed = headers(body, secret="the secret of tea")
        assert daemon.post(f"{PATH}/honey", body, signed).status_code == 401
        assert daemon.post(f"{PATH}/milk", body, signed).status_code == 401
        assert daemon.post(PATH, body, signed).status_code == 404
        assert daemon.post(f"{PATH}/tea", body, signed).status_code == 200
        site.receiver.wait_for(1)
        assert site.receiver.story(order) == ["new"]
        assert daemon.stop() == 0
        assert "the secret of" not in daemon.stderr


def test_one_shop_or_all_of_them_are_polled_and_muted(site: Site, shops: dict[str, RunningShop]) -> None:
    config = ("--config", "shops.toml")
    with reserved_port() as number:
        site.settings |= {
            "SHOP_HTTP_LISTEN": f"127.0.0.1:{number}",
            "SHOP_ADMIN_TOKEN": "a-token-that-nobody-guesses",
            "SHOP_NOTIFY_URLS": f"{site.receiver.url}#crm",
            "SHOP_POLLING_INTERVAL": "3600",
        }
        with site.start("run", *config) as daemon:
            daemon.wait_for("started")
            wait_until(lambda: 'shop_lease_held{shop="bread"} 1.0' in daemon.get("/metrics").text, "a lease")
            which = site.run("poll", "now", *config)
            assert (which.code, which.complaints) == (
                2,
                [
                    "shop-poller: there are 3 shops (honey, tea, bread); choose some by --shop or --tag,"
                    " or all by --all"
                ],
            )  # fmt: skip
            assert site.run("poll", "now", "--all", *config).lines == [
                *(f"{name}: The shop is being polled." for name in NAMES),
                "3 shops, 0 failed",
            ]
            asked = site.run("poll", "now", "--shop", "tea", "--shop", "bread", "--json", *config)
            assert json.loads(asked.stdout) == [
                {"shop": name, "polled": True, "answer": "The shop is being polled."} for name in NAMES[1:]
            ]
            muted = site.run("mute", "crm", "--shop", "tea", "--events", "new", *config)
            assert muted.last.startswith("tea: crm: shop.order.new muted until 20")
            for shop in shops.values():
                shop.shop.create_order("processing")
            assert site.run("poll", "now", "--all", *config).code == 0
            site.receiver.wait_for(2)
            (line,) = site.run("mutes", "--all", *config).lines
            assert line.startswith("tea: crm: shop.order.new muted until 20")
            assert json.loads(site.run("mutes", "--all", "--json", *config).last)["shop"] == "tea"
            assert site.run("unmute", "crm", "--all", *config).lines == [
                f"{name}: crm: not muted" for name in NAMES
            ]
            site.receiver.wait_for(3)
            assert site.run("mutes", "--all", *config).last == "no sink is muted"
            wrong = site.run("poll", "now", "--shop", "tea", *config, SHOP_ADMIN_TOKEN="b" * 20)
            assert (wrong.code, wrong.complaints) == (
                2, ["shop-poller: SHOP_ADMIN_TOKEN: is not the daemon's token; set both to the same value"],
            )  # fmt: skip


def test_each_shop_is_checked_and_the_bad_one_is_named(site: Site, shops: dict[str, RunningShop]) -> None:
    well = site.run("shops", "check", "--config", "shops.toml")
    assert (well.code, well.lines) == (0, [*(f"ok    {name}" for name in NAMES), "3 shops, 0 failed"])
    config = site.home / "shops.toml"
    config.write_text(config.read_text().replace(shops["tea"].url, "http://127.0.0.1:1/"), encoding="utf-8")
    bad = site.run("shops", "check", "--config", "shops.toml")
    assert bad.code == 3
    _, line, _, last = bad.lines
    assert line.startswith("FAIL  tea: shop: ")
    assert last == "3 shops, 1 failed"
    assert bad.complaints == []


@pytest.mark.usefixtures("shops")
@pytest.mark.parametrize(
    "command",
    [["run"], ["shops", "check"], ["check", "--shop", "tea"], ["shops", "list"], ["status", "--shop", "tea"]],
    ids=" ".join,
)
def test_several_shops_on_a_cluster_are_refused_with_one_line(site: Site, command: list[str]) -> None:
    site.settings |= {
        "SHOP_STATE_URL": "redis+cluster://u:pw-of-it@127.0.0.1:1",
        "SHOP_REDIS_PREFIX": "{s}:polling:",
    }
    told = site.run(*command, "--config", "shops.toml")
    assert told.code == 2
    (line,) = told.complaints
    assert "SHOP_STATE_URL: a Redis Cluster is for one shop only" in line
    assert "pw-of-it" not in line


def test_two_replicas_share_them_and_a_kill_loses_nothing(
    site: Site, shops: dict[str, RunningShop], tmp_path: Path
) -> None:
    with redis_server(tmp_path, keeps=True) as server, ExitStack() as stack:
        site.settings["SHOP_STATE_URL"] = server.url
        one = stack.enter_context(site.start("run", "--config", "shops.toml"))
        wait_until(lambda: one.get("/healthz").json()["shops"] == "3 of 3", "all of them")
        two = stack.enter_context(site.start("run", "--config", "shops.toml"))
        wait_until(lambda: two.get("/healthz").json().get("shops") == "1 of 3", "a share")
        wait_until(lambda: one.get("/healthz").json()["shops"] == "2 of 3", "the rest")
        one.kill()
        for shop in shops.values():
            shop.shop.create_order("processing")
        wait_until(lambda: len({*site.receiver.event_ids}) == 3, "all orders", within_s=PROMISE_S)
        assert two.get("/healthz").json()["shops"] == "3 of 3"
        well = site.run("status", "--all", "--config", "shops.toml")
        assert (well.code, well.last[:17]) == (0, "3 shops, 0 failed")
        assert two.stop() == 0
        stopped = site.run("status", "--all", "--config", "shops.toml")
        assert (stopped.code, stopped.last[:17]) == (3, "3 shops, 3 failed")
        assert stopped.stdout.count("no daemon watches it") == 3


def test_every_replica_shows_all_shops_and_their_pages(
    site: Site, shops: dict[str, RunningShop], tmp_path: Path
) -> None:
    with redis_server(tmp_path, keeps=True) as server, ExitStack() as stack:
        site.settings["SHOP_STATE_URL"] = server.url
        for shop in shops.values():
            shop.shop.create_order("processing", first_name="Zebulon")
        one = stack.enter_context(site.start("run", "--config", "shops.toml"))
        site.receiver.wait_for(3)
        two = stack.enter_context(site.start("run", "--config", "shops.toml"))
        wait_until(lambda: two.get("/healthz").json().get("shops") == "1 of 3", "a share")
        for replica, watched in ((one, 2), (two, 1)):
            get = partial(shown_by, replica)
            wait_until(partial(is_well, replica), "the overview")
            page = get("/")
            pages = {name: get(f"/shops/{name}/") for name in NAMES}
            assert page.count("<tr>") == 3 + 1
            assert sum("known to the leader" not in text for text in pages.values()) == watched
            for name, text in pages.items():
                assert f"<a href=shops/{name}/?lang=en>{name}</a>" in page
                assert "All is well" in text
                assert "Zebulon" not in page + text
        for replica in (one, two):
            assert replica.stop() == 0
            assert not replica.logged("internal error (bug): please report it; retrying")


def shown_by(daemon: Running, path: str) -> str:
    answer = daemon.get(f"{path}?lang=en")
    assert answer.status_code == 200
    return answer.text


def is_well(daemon: Running) -> bool:
    return "All is well: 3 of 3 shops" in shown_by(daemon, "/")
