"""`check` and `notify-test`: a line for each thing, what to do where it is not well, and an exit code."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, Request, page
from shop_poller.simulator.faults import Fault, Handler
from shop_poller.simulator.keys import DEMO_PASSWORD
from shop_poller.simulator.spoiling import wp_die
from support import cases
from support.commands import Finished, wait_until
from support.receivers import receiving, reserved_port
from support.site import SHOP_ID, Site

CHECKS = ["settings", "shop", "keys", "dialect", "clocks", "state"]


def failures(done: Finished) -> list[str]:
    """The lines of what is not well."""
    assert all(line[:6] in {"ok    ", "FAIL  "} for line in done.lines), done.stdout
    assert done.stderr == ""
    return [line.removeprefix("FAIL  ") for line in done.lines if line.startswith("FAIL")]


def test_all_is_well(site: Site) -> None:
    done = site.run("check")
    assert (done.code, failures(done)) == (0, [])
    subjects = [line[6:].partition(":")[0] for line in done.lines]
    assert subjects == [*CHECKS, "sink http"]
    assert f"shop {SHOP_ID}, every 1 s, 1 sink(s)" in done.lines[0]


def test_it_changes_nothing(site: Site) -> None:
    before = sorted(path.name for path in site.home.iterdir())
    site.shop.create_order("processing")
    assert site.run("check").code == 0
    assert sorted({*before, "tmp"}) == sorted(path.name for path in site.home.iterdir())
    assert list((site.home / "tmp").iterdir()) == []
    assert site.receiver.methods == ["OPTIONS"], "nothing is posted"
    assert [(request.method, request.tool) for request in site.served.requests] == [
        ("initialize", None),
        ("notifications/initialized", None),
        ("tools/list", None),
        ("tools/call", "woocommerce-orders-list"),  # `auto` sees that it answers
        ("tools/call", "woocommerce-orders-list"),  # the recent ones, for their statuses
        ("DELETE", None),
    ]
    assert site.served.endpoint.sessions.of(site.served.key.user) == []

    assert site.once().code == 0
    state = site.files()
    assert site.run("check").code == 0
    assert {name: site.files()[name] for name in state} == state
    assert len(site.receiver.posts) == 1


def test_it_warns_of_an_address_whose_path_is_shown_and_looks_like_a_secret(site: Site) -> None:
    secret = f"{site.receiver.url}/hooks/aB3dE5fG7hI9kL1mN3pQ5rS7"
    done = site.run("check", SHOP_NOTIFY_URLS=f"{secret} {secret}#crm")
    assert (done.code, failures(done)) == (0, [])
    assert "1 sink(s) in SHOP_NOTIFY_URLS with a path that looks like a secret" in done.lines[1]


def test_it_may_run_while_the_daemon_runs(site: Site) -> None:
    with site.daemon(SHOP_POLLING_INTERVAL="3600") as daemon:
        wait_until(lambda: daemon.get("/readyz").status_code == 200, "readiness")
        database = site.state.read_bytes()
        done = site.run("check")
        assert (done.code, failures(done)) == (0, [])
        assert site.state.read_bytes() == database
        assert daemon.logged("polling failed") == []


def _keys(**changes: object) -> Callable[[Site], None]:
    def spoil(site: Site) -> None:
        site.served.endpoint.keys[:] = [replace(site.served.key, **changes)]  # type: ignore[arg-type] # any field

    return spoil


def _fault(fault: Fault) -> Callable[[Site], None]:
    return lambda site: site.served.faults.add(fault)


def _https_only(site: Site) -> None:
    site.served.endpoint.require_https = True


TROUBLES = {
    "wrong key": (
        _keys(consumer_secret="cs_another"),
        "keys: the shop answered 401:",
        "check the consumer key",
    ),
    "no right to view": (_keys(can_view=False), "keys: the shop answered 403:", "their user may view orders"),
    "no right to read": (_keys(permissions="write"), "keys: the shop says: Permission denied", "check the"),
    "user deleted": (_keys(user_exists=False), "keys: the shop answered 401:", "check the consumer key"),
    "feature off": (_fault(faults.feature_off()), "dialect: the shop answered 404:", "10.3 or later"),
    "http refused": (_https_only, "keys: the shop answered 403: insecure_transport: HTTPS is required", ""),
    "captcha": (_fault(faults.captcha()), "shop: HTTP 200 with a page", "let it pass the shop's API"),
    "maintenance": (_fault(faults.maintenance()), "shop: the shop answered 503:", "probably being updated"),
    "too many requests": (
        _fault(faults.rate_limited()),
        "shop: the shop answered 429:",
        "wait a few minutes",
    ),
    "broken connection": (
        _fault(faults.dropped()),
        "shop: the connection to the shop failed: it was closed before a response arrived",
        "check the address",
    ),
    "PHP broken": (_fault(faults.php_fatal()), "shop: the shop says:", "PHP error log"),
    "no Date": (_fault(faults.no_date()), "shop: the shop's answer has no Date header", "proxy"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_with_the_shop_is_3(site: Site, trouble: str) -> None:
    spoil, found, advice = TROUBLES[trouble]
    spoil(site)
    done = site.run("check", SHOP_DIALECT="woocommerce-mcp")
    (failure,) = failures(done)
    assert done.code == 3
    assert failure.startswith(found)
    assert advice in failure
    assert "ok    state" in done.stdout, "the rest is looked at all the same"
    assert "ok    sink" in done.stdout


@pytest.mark.parametrize("address", ["http://us:hunter2@[", "socks5://us:hunter2@127.0.0.1:1"])
@pytest.mark.parametrize("command", [("check",), ("run", "--once")], ids=" ".join)
def test_a_proxy_that_is_none_is_3_in_a_line(site: Site, command: tuple[str, ...], address: str) -> None:
    done = site.run(*command, ALL_PROXY=address, WOOCOMMERCE_MCP_URL="https://shop.example")
    assert done.code == 3
    said = "the proxy in HTTPS_PROXY or ALL_PROXY cannot be used"
    complaints = failures(done)[:1] if command == ("check",) else done.complaints
    (complaint,) = complaints
    assert said in complaint
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def dialects(done: Finished) -> list[str]:
    """What it says of the dialect."""
    return [line[6:] for line in done.lines if line[6:].startswith("dialect:")]


def test_it_says_which_dialect_and_why(site: Site) -> None:
    assert dialects(site.run("check")) == [
        "dialect: woocommerce-mcp: it is the first that fits address and keys"
    ]
    assert dialects(site.run("check", SHOP_DIALECT="rest")) == ["dialect: rest: set by SHOP_DIALECT"]
    site.served.endpoint.offers -= {"woocommerce-mcp"}
    assert dialects(site.run("check")) == ["dialect: rest: those before it do not answer"]


PASSWORD = {
    "WORDPRESS_USERNAME": DEMO_PASSWORD.username,
    "WORDPRESS_APPLICATION_PASSWORD": DEMO_PASSWORD.password,
}
BLIND = (
    "dialect: abilities cannot see partial refunds, the buyer's first name, order numbers of a plugin's, the"
    " date of payment, drafts, and statuses of a plugin that was removed;"
)


def test_it_says_what_a_dialect_cannot_see_and_which_would(site: Site) -> None:
    done = site.run("check", SHOP_DIALECT="abilities", **PASSWORD)
    assert (done.code, failures(done)) == (0, [])
    assert dialects(done) == [
        "dialect: abilities: set by SHOP_DIALECT",
        f"{BLIND} woocommerce-mcp can, and answers: set SHOP_DIALECT=woocommerce-mcp;"
        " rest can, and answers: set SHOP_DIALECT=rest",
    ]
    site.served.endpoint.offers = {"abilities"}
    assert dialects(site.run("check", **PASSWORD))[1] == f"{BLIND} no other answers"
    needs = "needs WOOCOMMERCE_CONSUMER_KEY and WOOCOMMERCE_CONSUMER_SECRET"
    no_keys = {"WOOCOMMERCE_CONSUMER_KEY": None, "WOOCOMMERCE_CONSUMER_SECRET": None}
    assert dialects(site.run("check", **PASSWORD, **no_keys))[1] == (
        f"{BLIND} woocommerce-mcp can, but {needs}; rest can, but {needs}"
    )


def statuses(done: Finished) -> list[str]:
    """What it says of statuses."""
    assert (done.code, failures(done)) == (0, [])
    return [line[6:].partition(": ")[2] for line in done.lines if line[6:].startswith("statuses:")]


def test_it_says_how_custom_statuses_count_and_warns_where_nothing_was_paid(site: Site) -> None:
    for status in ("processing", "pending", "completed", "trash"):
        site.shop.create_order(status)
    assert statuses(site.run("check")) == []
    for raw in ("unpaid-custom-status/order_a.json", "unpaid-custom-status/order_b.json"):
        (order,) = cases.load(raw)
        for _ in range(2):
            made = site.shop.create_order("pending")
            shown = {"status": f"wc-{order['status']}", "date_paid_gmt": order["date_paid_gmt"]}
            site.shop.distort(made, faults.with_values(**shown))
    paid = site.shop.create_order("processing")
    site.shop.distort(paid, faults.with_values(status="sborka"))
    known_unpaid = "SHOP_UNPAID_STATUSES names it"
    warned = "counts as paid, but 2 of them have no date of payment; if such orders are not paid, name it in"
    for dialect in ("woocommerce-mcp", "rest"):
        assert statuses(site.run("check", SHOP_DIALECT=dialect)) == [
            f"warning: pending-deposit (2 of the recent orders) {warned} SHOP_UNPAID_STATUSES",
            f"warning: pos-open (2 of the recent orders) {warned} SHOP_UNPAID_STATUSES",
            "sborka (1 of the recent orders) counts as paid; if it is not, name it in SHOP_UNPAID_STATUSES",
        ]
    assert statuses(site.run("check", SHOP_UNPAID_STATUSES="wc-pos-open Pending-Deposit"))[:2] == [
        f"pending-deposit (2 of the recent orders) counts as not paid: {known_unpaid}",
        f"pos-open (2 of the recent orders) counts as not paid: {known_unpaid}",
    ]
    done = site.once(SHOP_UNPAID_STATUSES="wc-pos-open Pending-Deposit")
    assert done.code == 0
    assert sorted(order for order, event in site.receiver.events if event == "new") == sorted(
        str(order.id) for order in site.shop.orders if order.status in {"processing", "completed"}
    )


def test_a_shop_that_does_not_answer_with_that_many_is_well_all_the_same(site: Site) -> None:
    site.shop.create_order("sborka")
    requested: list[str] = []

    def large(request: Request, onward: Handler) -> Answer:
        requested.append(request.body.decode())
        return wp_die(500, "no memory", {}) if '"per_page":100' in requested[-1] else onward(request)

    site.served.faults.add(Fault("no memory", large))
    assert statuses(site.run("check")) == []
    assert any('"per_page":100' in body for body in requested)


def test_a_shop_that_is_not_there_is_3(site: Site) -> None:
    with reserved_port() as port:
        done = site.run("check", WOOCOMMERCE_MCP_URL=f"http://127.0.0.1:{port}/wp-json/woocommerce/mcp")
    (failure,) = failures(done)
    assert done.code == 3
    assert failure.startswith("shop: no connection to the shop")
    assert failure.endswith("check WOOCOMMERCE_MCP_URL, and whether this machine can reach the shop")


def test_a_shop_that_redirects_is_about_the_address(site: Site) -> None:
    there = "https://www.shop.example/wp-json/woocommerce/mcp"
    moved = Answer(301, b"", {"Location": there})
    site.served.faults.add(Fault("moved", lambda _request, _onward: moved))
    done = site.run("check")
    (failure,) = failures(done)
    assert done.code == 3
    assert failure.startswith(f"address: the shop redirects to {there}")


@pytest.mark.parametrize(("skew_s", "direction"), [(600, "ahead of"), (-600, "behind")])
def test_a_clock_that_is_off_is_told_but_does_no_harm(site: Site, skew_s: float, direction: str) -> None:
    site.served.faults.add(faults.clock_skew(skew_s))
    done = site.run("check")
    assert (done.code, failures(done)) == (0, [])
    (clocks,) = (line for line in done.lines if "clocks:" in line)
    assert direction in clocks
    assert "set both by NTP" in clocks


def test_keys_do_not_go_over_plain_http_to_another_host(site: Site) -> None:
    for command in ("check", "run", "notify-test", "status"):
        done = site.run(command, WOOCOMMERCE_MCP_URL="http://shop.example/wp-json/woocommerce/mcp")
        assert (done.code, done.stdout) == (2, "")
        (complaint,) = done.stderr.splitlines()
        assert "plain http" in complaint
        assert "use https://" in complaint


def test_a_receiver_that_is_down_is_4(site: Site) -> None:
    with reserved_port() as port:
        sinks = f"http://127.0.0.1:{port}/hook#down {site.receiver.url} redis://127.0.0.1:{port}/0?channel=a"
        done = site.run("check", SHOP_NOTIFY_URLS=sinks)
    http, redis = failures(done)
    assert done.code == 4
    assert http.startswith("sink down: no connection to down: ")
    assert redis.startswith(f"sink redis://127.0.0.1:{port}/0: ")
    assert all("check its address in SHOP_NOTIFY_URLS" in failure for failure in (http, redis))
    assert f"ok    sink {site.receiver.url}: answers (HTTP 405 to OPTIONS)" in done.lines


def test_a_state_of_another_program_is_5_and_left_alone(site: Site) -> None:
    site.state.parent.mkdir()
    with closing(sqlite3.connect(site.state)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    before = site.files()
    for command in (["check"], ["run"], ["status"]):
        done = site.run(*command)
        assert done.code == 5
        assert f"{site.state} is a database of another program" in done.stdout + done.stderr
        assert "name another file in SHOP_STATE_URL" in done.stdout + done.stderr
    assert {name: file for name, file in site.files().items() if not name.endswith(".lock")} == before


def test_several_troubles_are_all_told_and_the_first_gives_the_code(site: Site) -> None:
    site.served.endpoint.keys.clear()
    with reserved_port() as port:
        done = site.run("check", SHOP_NOTIFY_URLS=f"http://127.0.0.1:{port}/hook#down console:")
    assert [failure.partition(":")[0] for failure in failures(done)] == ["keys", "sink down"]
    assert done.code == 3


def test_a_shop_that_says_our_keys_back_is_quoted_without_them(site: Site) -> None:
    key = site.served.key
    echo = Fault("echo", lambda *_: page(401, "Denied", f"You sent {key.header}, {key.consumer_secret}"))
    site.served.faults.add(echo)
    for command in (["check"], ["run", "--once"], ["run", "--once", "--dry-run"]):
        done = site.run(*command)
        assert done.code == 3
        said = done.stdout + done.stderr
        assert "You sent" in said
        assert key.consumer_key not in said
        assert key.consumer_secret not in said


def test_notify_test_says_what_came_back(site: Site) -> None:
    with receiving() as other:
        done = site.run("notify-test", SHOP_NOTIFY_URLS=f"{site.receiver.url} {other.url}#other console:")
        posts = [*site.receiver.taken, *other.taken]
    assert (done.code, failures_of_test(done)) == (0, [])
    assert len(posts) == 2
    for post in posts:
        said = post.notification
        assert said["event_type"] == "service.test"
        assert said["level"] == "info"
        assert said["data"].keys() == {"shop"}
        assert SHOP_ID in said["message"]
        assert post.headers["idempotency-key"] == said["event_id"]
    assert f"ok    sink {site.receiver.url}: accepted it (event_id {posts[0].event_id})" in done.lines
    assert "Проверка связи" in done.stdout
    assert not site.state.parent.exists()
    assert site.served.requests == []


def test_notify_test_fails_with_4(site: Site) -> None:
    site.receiver.answer = lambda _: 401
    with reserved_port() as port, receiving() as good:
        sinks = f"{site.receiver.url}#refuses http://127.0.0.1:{port}/#down {good.url}#good"
        done = site.run("notify-test", SHOP_NOTIFY_URLS=sinks)
        assert len(good.taken) == 1, "the others get theirs"
    assert done.code == 4
    refuses, down = failures_of_test(done)
    assert refuses.startswith("sink refuses: the receiver answered 401; ")
    assert down.startswith("sink down: no connection to down: ")
    assert len(site.receiver.posts) == 1, "it is not tried again"


def failures_of_test(done: Finished) -> list[str]:
    """The same, where the console's own lines are among them."""
    assert done.stderr == ""
    return [line.removeprefix("FAIL  ") for line in done.lines if line.startswith("FAIL")]


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("a symbolic link", lambda lock: lock.symlink_to("nowhere")),
        ("a special file", os.mkfifo),
        ("another file", lambda lock: lock.write_text("keep me " * 100)),
    ],
    ids=["link", "pipe", "other file"],
)
def test_what_would_not_let_the_daemon_lock_its_state_is_found(
    site: Site, kind: str, make: Callable[[Path], object]
) -> None:
    assert site.once().code == 0
    lock = site.state.with_name(f"{site.state.name}.lock")
    lock.unlink()
    make(lock)
    before = lock.lstat()
    done = site.run("check")
    assert done.code == 5
    (failure,) = failures(done)
    assert f"{lock} is {kind}, not a lock file of shop-poller; move it away and start again" in failure
    assert lock.lstat().st_mtime_ns == before.st_mtime_ns


def test_the_lock_of_a_daemon_that_runs_is_no_trouble_and_stays_its_own(site: Site) -> None:
    with site.daemon():
        assert site.run("check").code == 0
        assert "is in use by another shop-poller" in site.once().stderr
