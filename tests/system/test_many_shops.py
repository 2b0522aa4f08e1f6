"""Commands over several shops of one file: --shop, --tag, --all; the worst first, and one summary."""

import json
from typing import Any

import pytest

from shop_poller.simulator.keys import DEMO_KEY
from support.site import Site

CONFIG = ("--config", "shops.toml")
NO_DAEMON = "no daemon watches this shop; start it with `shop-poller run`"
WRONG_KEY = {"SHOP_SECRET": "cs_wrong"}


@pytest.fixture
def fleet(site: Site) -> Site:
    """Three shops at one address: honey and tea are premium."""
    site.name_shops(dict.fromkeys(("honey", "tea", "bread"), site.served.url))
    config = site.home / "shops.toml"
    text = config.read_text("utf-8")
    for name in ("honey", "tea"):
        text = text.replace(f'shop_id = "{name}"', f'shop_id = "{name}"\ntags = ["premium"]')
    config.write_text(text, encoding="utf-8")
    site.settings["SHOP_NOTIFY_URLS"] = f"{site.receiver.url}#crm"
    return site


def once(site: Site, *shops: str, code: int = 0, **changes: str) -> None:
    """Poll shops once each."""
    for shop in shops:
        assert site.run("run", "--once", "--shop", shop, *CONFIG, **changes).code == code


def document(site: Site, *args: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    done = site.run(*args, "--json", *CONFIG)
    assert (done.code, done.complaints) == (code, [])
    return json.loads(done.stdout)


def test_status_of_all_begins_with_the_worst_and_says_why(fleet: Site) -> None:
    once(fleet, "honey", "tea")
    once(fleet, "tea", code=3, **WRONG_KEY)
    with fleet.start("run", *CONFIG, **WRONG_KEY) as daemon:
        daemon.wait_for("started")
        daemon.wait_for("alert raised")
    done = fleet.run("status", "--all", *CONFIG)
    assert done.code == 3
    *lines, last = done.lines
    assert len(lines) == 3
    assert all(line.startswith("FAIL  ") for line in lines)
    assert last.startswith("3 shops, 3 failed; ")
    found = {one["shop"]: one for one in document(fleet, "status", "--all", code=3)}
    assert found["tea"]["polls_fail"]["error_type"] == "AuthenticationError"
    assert found["tea"]["problems"][0] == NO_DAEMON


def test_a_shop_that_is_well_comes_last(fleet: Site) -> None:
    with fleet.start("run", *CONFIG) as daemon:
        daemon.wait_for("started")
        fleet.shop.create_order("processing")
        fleet.receiver.wait_for(3)
        well = fleet.run("status", "--all", *CONFIG)
        assert (well.code, [line[:6] for line in well.lines[:3]]) == (0, ["ok    "] * 3)
        assert well.last == "3 shops, 0 failed; 0 waiting, 0 dead letters"
        assert [line.split()[1] for line in well.lines[:3]] == ["honey", "tea", "bread"]
        assert daemon.stop() == 0
    (fleet.home / "state" / "shop-poller.db.shops" / "bread.db").unlink()
    gone = document(fleet, "status", "--tag", "premium", code=3)
    assert [one["shop"] for one in gone] == ["honey", "tea"]
    assert [one["problems"] for one in gone] == [[NO_DAEMON]] * 2
    every = fleet.run("status", "--all", *CONFIG)
    assert every.code == 3
    assert "no state yet" in every.stdout
    one = fleet.run("status", "--shop", "bread", *CONFIG)
    assert (one.code, one.stdout) == (5, "")


def test_which_polls_fail_is_listed(fleet: Site) -> None:
    once(fleet, "honey")
    once(fleet, "tea", code=3, **WRONG_KEY)
    listed = {
        one["shop"]: one for one in map(json.loads, fleet.run("shops", "list", "--json", *CONFIG).lines)
    }
    assert (listed["honey"]["trouble"], listed["honey"]["tags"]) == (None, ["premium"])
    assert listed["tea"]["trouble"].startswith("polls fail since 20")
    assert "keys" in listed["tea"]["trouble"]
    assert "tags" not in listed["bread"]
    premium = fleet.run("shops", "list", "--tag", "premium", *CONFIG)
    assert [line.split()[0] for line in premium.lines] == ["honey", "tea"]


def test_dead_letters_of_several_shops(fleet: Site) -> None:
    fleet.receiver.answer = lambda _: 422
    fleet.shop.create_order("processing")
    fleet.shop.create_order("processing")
    once(fleet, "honey", "tea", "bread", code=4)
    found = document(fleet, "dead", "list", "--all")
    counts = {one["shop"]: len(one["deliveries"]) for one in found}  # of orders, and of alerts about them
    assert [*counts] == ["honey", "tea", "bread"]
    assert min(counts.values()) >= 2
    honey, tea, bread = counts.values()
    listed = fleet.run("dead", "list", "--tag", "premium", *CONFIG)
    assert listed.code == 0
    assert sorted(line.split()[0] for line in listed.lines[:-1]) == ["honey"] * honey + ["tea"] * tea
    assert listed.last == f"2 shops, 0 failed; {honey + tea} listed"
    assert fleet.run("dead", "list", "--all", "--limit", "1", *CONFIG).last == "3 shops, 0 failed; 1 listed"

    assert fleet.run("dead", "drop", "--all", "--all-shops", *CONFIG).complaints == [
        f"shop-poller: this would delete {honey + tea + bread} dead letters; add --yes to confirm"
    ]
    one = fleet.run("dead", "replay", "1", "--all-shops", *CONFIG)
    assert (one.code, one.complaints) == (
        2, ["shop-poller: an id belongs to one shop; name the shop by --shop"],
    )  # fmt: skip
    unknown = fleet.run("dead", "replay", "--sink", "nobody", "--all-shops", *CONFIG)
    assert unknown.code == 2
    assert "no sink is named 'nobody'" in unknown.stderr
    assert fleet.run("dead", "replay", "--all", "--tag", "premium", *CONFIG).lines == [
        f"honey  replayed {honey} of {honey}",
        f"tea    replayed {tea} of {tea}",
        f"2 shops, 0 failed; replayed {honey + tea} of {honey + tea}",
    ]
    assert document(fleet, "dead", "drop", "--all", "--yes", "--all-shops") == [
        {"shop": "honey", "dropped": 0, "found": 0},
        {"shop": "tea", "dropped": 0, "found": 0},
        {"shop": "bread", "dropped": bread, "found": bread},
    ]
    assert document(fleet, "dead", "drop", "--all", "--shop", "bread") == {
        "shop": "bread", "dropped": 0, "found": 0,
    }  # fmt: skip
    assert fleet.run("dead", "list", "--shop", "bread", *CONFIG).lines == ["no dead letters"]


def test_a_shop_whose_state_cannot_be_read_does_not_hold_up_the_others(fleet: Site) -> None:
    fleet.shop.create_order("processing")
    once(fleet, "honey", "tea")
    for command in (
        ["deliveries", "list"],
        ["dead", "list"],
        ["dead", "replay", "--sink", "crm"],
        ["replay", "--since", "2026-11-01", "--dry-run"],
        ["audit", "--since", "2026-11-01"],
        ["backfill", "--since", "2026-01-01"],
    ):
        every = "--all-shops"
        done = fleet.run(*command, every, *CONFIG)
        told = [*done.complaints, *(line for line in done.lines if "bread" in line)]
        assert done.code == 5, command
        assert len(told) == 1, (command, told)
        assert "no state yet" in told[0]
        assert done.last.startswith("3 shops, 1 failed; ")
        if command[0] == "audit":
            assert done.lines[0].startswith("FAIL  bread"), "the worst first"
        found = json.loads(fleet.run(*command, every, "--json", *CONFIG).stdout)
        assert {one["shop"] for one in found if "error" in one} == {"bread"}, command
        assert len(found) == 3


def test_past_deliveries_of_several_shops_are_listed_and_sent_again(fleet: Site) -> None:
    fleet.shop.create_order("processing")
    once(fleet, "honey", "tea", "bread")
    assert fleet.run("deliveries", "list", "--all", *CONFIG).last == "3 shops, 0 failed; 3 listed"
    listed = document(fleet, "replay", "--since", "2026-11-01", "--tag", "premium", "--dry-run")
    assert [(one["shop"], one["found"], len(one["deliveries"])) for one in listed] == [
        ("honey", 1, 1), ("tea", 1, 1),
    ]  # fmt: skip
    unknown = fleet.run("replay", "--since", "2026-11-01", "--event", "nothing", "--all", *CONFIG)
    assert (unknown.code, len(unknown.complaints)) == (2, 1)
    sent = fleet.run("replay", "--since", "2026-11-01", "--all", "--yes", *CONFIG)
    assert sent.lines == ["3 shops, 0 failed; replayed 3 of 3"]
    one = document(fleet, "replay", "--since", "2026-11-01", "--shop", "tea")
    assert (one["shop"], one["found"], one["replayed"]) == ("tea", 0, 0)


def test_several_shops_are_audited_and_old_orders_imported(fleet: Site) -> None:
    once(fleet, "honey", "tea")
    fleet.shop.create_order("processing")
    once(fleet, "tea")
    found = fleet.run("audit", "--since", "2026-11-01", "--tag", "premium", *CONFIG)
    assert found.code in {0, 6}
    assert found.last.startswith("2 shops, ")
    assert found.last.endswith("; 2 orders")
    listed = json.loads(
        fleet.run("audit", "--since", "2026-11-01", "--tag", "premium", "--json", *CONFIG).stdout
    )
    assert sorted(one["shop"] for one in listed) == ["honey", "tea"]
    assert [one["orders"] for one in listed] == [1, 1]
    imported = fleet.run("backfill", "--since", "2026-01-01", "--tag", "premium", *CONFIG)
    assert imported.code == 0
    assert imported.last.startswith("2 shops, 0 failed; read ")
    one = document(fleet, "backfill", "--since", "2026-01-01", "--shop", "tea")
    assert one == {"shop": "tea", "orders": 0, "imported": 0}


def test_several_shops_are_checked_and_their_sinks_tested(fleet: Site) -> None:
    done = fleet.run("check", "--tag", "premium", *CONFIG)
    assert (done.code, done.last) == (0, "2 shops, 0 failed")
    warning, *about_shops = done.lines[:-1]
    assert "honey, tea have the same WOOCOMMERCE_MCP_URL" in warning
    assert {line.split()[1] for line in about_shops} == {"honey", "tea"}
    assert any(line.startswith("ok    tea    keys: accepted") for line in done.lines)
    (fleet.home / "key").write_text("ck_wrong", encoding="utf-8")
    bad = document(fleet, "check", "--shop", "tea", "--shop", "honey", code=3)
    assert [(one["shop"], one["ok"]) for one in bad] == [("honey", False), ("tea", False)]
    assert [one["about"] for one in bad[0]["findings"] if not one["ok"]] == ["keys"]
    assert [one["ok"] for one in document(fleet, "shops", "check", code=3)] == [False] * 3

    (fleet.home / "key").write_text(DEMO_KEY.consumer_key, encoding="utf-8")
    fleet.served.requests.clear()
    assert fleet.run("shops", "check", "--tag", "premium", *CONFIG).lines[1:] == [
        "ok    honey",
        "ok    tea",
        "2 shops, 0 failed",
    ]
    # The handshake, its confirmation, the tools, an order, and the end of the session.
    assert len(fleet.served.requests) == 2 * 5, "each request counts, where there are hundreds of shops"

    tested = document(fleet, "notify-test", "--all")
    assert [(one["shop"], one["ok"]) for one in tested] == [("honey", True), ("tea", True), ("bread", True)]
    assert len(fleet.receiver.posts) == 3
    fleet.receiver.answer = lambda _: 500
    failed = fleet.run("notify-test", "--all", *CONFIG)
    assert (failed.code, failed.last) == (4, "3 shops, 3 failed")
    one = document(fleet, "notify-test", "--shop", "tea", code=4)
    assert (one["shop"], one["ok"]) == ("tea", False)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--all", "--shop", "tea"], "give only one of --shop, --tag and --all"),
        (["--tag", "premium", "--shop", "tea"], "give only one of --shop, --tag and --all"),
        (["--tag", "cheap"], "--tag: no shop has the tag 'cheap'; there are: premium"),
        (["--shop", "milk"], "--shop: there is no shop 'milk'; there are: honey, tea, bread"),
        (
            [],
            "there are 3 shops (honey, tea, bread); choose some by --shop or --tag, or all by --all",
        ),
    ],
)
@pytest.mark.parametrize("command", ["status", "poll now", "check", "audit --since 2026-11-01"])
def test_a_wrong_choice_is_refused_in_one_line(
    fleet: Site, command: str, options: list[str], problem: str
) -> None:
    done = fleet.run(*command.split(), *options, *CONFIG)
    assert (done.code, done.stdout, done.complaints) == (2, "", [f"shop-poller: {problem}"])


def test_the_same_reason_for_all_shops_is_told_once(fleet: Site) -> None:
    done = fleet.run("poll", "now", "--all", *CONFIG, SHOP_ADMIN_TOKEN="0123456789abcdef")
    assert done.code == 3
    (complaint,) = done.complaints
    assert complaint.startswith("shop-poller: no daemon answers at 127.0.0.1:0: ")
