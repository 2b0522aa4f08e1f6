"""Nothing secret, and of a buyer no more than the first name, in anything that leaves the process."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import page
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.faults import Fault
from shop_poller.simulator.goods import Customer
from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.orders import Distortion
from shop_poller.simulator.shop import SimulatedShop
from support.commands import Running, wait_until
from support.receivers import reserved_port
from support.simulated import Caller, wall_clock
from support.site import Site, site_at

KEY = ApiKey("ck_" + "0a1b2c3d" * 5, "cs_" + "9e8d7c6b" * 5)
NOTIFY_SECRET = "whsec_" + "dGhpcyBzaWducyBhbmQgbXVzdCBuZXZlciBiZSBzZWVu"
PASSWORD = "open-sesame-4711"
TOKEN = "token-8f14e45f"
ADMIN_TOKEN = "e3b0c44298fc1c149afbf4c8996fb924"
READ_TOKEN = "27ae41e4649b934ca495991b7852b855"
FIRST_NAMES = (
    "Ольга",
    "Пётр",
    "Зинаида",
    "Иван\u202eнавИ",
    "<b>Анна</b>\r\nX-Admin: yes",
    "Robert'); DROP TABLE outbox;--",
)
ORDERS = 120


def buyer(number: int) -> Customer:
    """A buyer whose every word can be found again."""
    return Customer(
        first_name=FIRST_NAMES[number % len(FIRST_NAMES)],
        last_name=f"Тайнофамильцев{number:03}",
        city=f"Скрытоград{number:03}",
        address_1=f"Потайная улица {number:03}",
        postcode=f"Индекс-{number:03}",  # in words: six digits are in a time, too
        email=f"secret.buyer.{number:03}@private.test",
        phone=f"+7 955 555-{number:04}",
    )


def addressed(number: int) -> Distortion:
    """An order as real shops have it: with the buyer's IP address, browser and remarks."""
    return faults.with_values(
        customer_ip_address=f"203.0.113.{number}",
        customer_user_agent=f"NosyBrowser/{number}",
        customer_note=f"Домофон-{number:03}",
        transaction_id=f"txn-private-{number:03}",
    )


PERSONAL = re.compile(
    r"Тайнофамильцев|Скрытоград|Потайная|Индекс-|private\.test|secret\.buyer|955 555-|203\.0\.113\."
    r"|NosyBrowser|Домофон|txn-private|wc_order_"
)
SECRET = re.compile(
    "|".join(
        re.escape(secret)
        for secret in (
            KEY.consumer_key, KEY.consumer_secret, NOTIFY_SECRET, NOTIFY_SECRET.removeprefix("whsec_"),
            PASSWORD, TOKEN, ADMIN_TOKEN, READ_TOKEN, "hooks-user",
        )
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Everything that a long run with many orders and troubles has produced, by where it was found."""
    with reserved_port() as dead, site_at(tmp_path_factory.mktemp("private")) as site:
        site.served.endpoint.keys[:] = [KEY]
        host = site.receiver.url.removeprefix("http://")
        site.settings.update(
            WOOCOMMERCE_CONSUMER_KEY=KEY.consumer_key,
            WOOCOMMERCE_CONSUMER_SECRET=KEY.consumer_secret,
            SHOP_NOTIFY_SECRET=NOTIFY_SECRET,
            SHOP_ADMIN_TOKEN=ADMIN_TOKEN,
            SHOP_READ_TOKEN=READ_TOKEN,
            SHOP_NOTIFY_URLS=(
                f"http://hooks-user:{PASSWORD}@{host}?key={TOKEN} console:"
                f" http://hooks-user:{PASSWORD}@127.0.0.1:{dead}/dead?key={TOKEN}"
                f" redis://hooks-user:{PASSWORD}@127.0.0.1:{dead}/0?channel=events"
            ),
            SHOP_LOG_LEVEL="debug",
        )
        found: dict[str, str] = {}
        with site.daemon() as daemon:
            found["command line"] = Path(f"/proc/{daemon.pid}/cmdline").read_text()
            _a_long_day(site, daemon)
            for path in ("/", "/metrics", "/healthz", "/readyz", "/livez"):
                found[path] = daemon.get(path, token=READ_TOKEN).text
            found["without a token"] = daemon.get("/").text
            found |= _files(site, "while it runs")
            for args in (["status"], ["status", "--json"], ["check"], ["run", "--once", "--dry-run"]):
                done = site.run(*args)
                found[" ".join(args)] = done.stdout + done.stderr
            daemon.kill()
        found |= _files(site, "after a kill")
        site.served.endpoint.keys.clear()
        for args in (["run", "--once"], ["check"], ["notify-test"]):
            done = site.run(*args)
            found["wrong keys: " + " ".join(args)] = done.stdout + done.stderr
        found["stdout"], found["stderr"] = daemon.stdout, daemon.stderr
        found["notifications"] = "\n".join(post.body.decode() for post in site.receiver.posts)
        yield found | _files(site, "in the end")


def _a_long_day(site: Site, daemon: Running) -> None:
    """Orders come, are refunded, fail and are cancelled; some are broken, and the shop is, too."""
    shop, random = site.shop, Random(5)
    orders = []
    for number in range(ORDERS):
        orders.append(shop.create_order("processing", customer=buyer(number)))
        shop.distort(orders[-1], addressed(number))
    site.receiver.wait_for(ORDERS)
    for order in orders[:60]:
        match random.choice(["refund", "some", "failed", "cancelled"]):
            case "refund":
                shop.refund(order)
            case "some":
                shop.refund(order, 1)
            case status:
                shop.set_status(order, status)
    broken = orders[-1]
    customer = buyer(ORDERS - 1)
    shop.distort(
        broken,
        faults.with_values(
            total=customer.last_name,
            status=[customer.email],
            date_paid_gmt=customer.phone,
            refunds=customer.city,
        ),
    )
    shop.touch(broken)
    site.receiver.wait_for(ORDERS + 60)
    daemon.wait_for("order set aside: it cannot be read")
    for fault in (
        faults.half_a_body(),
        faults.php_fatal(f"Uncaught TypeError: key {KEY.header} in careless.php:12"),
        faults.php_notice(),
    ):
        site.served.faults.add(fault, times=1)
        wait_until(lambda: not site.served.faults.active, "a trouble that has passed", within_s=90)
        site.polled()
    for echo in (
        Fault("echo", lambda request, _: page(200, "Debug", f"{dict(request.headers)}")),
        Fault("echo", lambda request, _: page(500, "Debug", f"{request.headers['x-mcp-api-key']}")),
    ):
        _until_a_poll_fails(site, daemon, echo)
        site.polled()
    site.served.endpoint.keys.clear()
    wait_until(lambda: daemon.logged("alert raised"), "an alert", within_s=90)
    site.served.endpoint.keys.append(KEY)


def _until_a_poll_fails(site: Site, daemon: Running, fault: Fault) -> None:
    """Answer with the fault until a poll fails: the sweep may take one answer, and a retry hide another."""
    failures = len(daemon.logged("polling failed"))
    site.served.faults.add(fault)
    wait_until(lambda: len(daemon.logged("polling failed")) > failures, "a failed poll", within_s=90)
    site.served.faults.clear(fault.name)


def _files(site: Site, when: str) -> dict[str, str]:
    """The bytes of every file of the state."""
    return {
        f"{name} {when}": content.decode("utf-8", "replace") for name, (content, _) in site.files().items()
    }


def test_the_sweep_would_find_it() -> None:
    shop = SimulatedShop(wall_clock)
    shop.distort(shop.create_order("processing", customer=buyer(7)), addressed(7))
    shown = json.dumps(Caller(Endpoint(shop)).listing(), ensure_ascii=False)
    assert set(PERSONAL.findall(shown)) == {
        "Тайнофамильцев", "Скрытоград", "Потайная", "Индекс-", "private.test", "secret.buyer", "955 555-",
        "203.0.113.", "NosyBrowser", "Домофон", "txn-private", "wc_order_",
    }  # fmt: skip


def test_there_is_something_to_look_at(produced: dict[str, str]) -> None:
    assert {f"shop-poller.db-wal {when}" for when in ("while it runs", "after a kill")} <= set(produced)
    assert "Зинаида" in produced["notifications"]
    assert "Зинаида" in produced["stdout"]
    state = produced["shop-poller.db-wal after a kill"] + produced["shop-poller.db after a kill"]
    assert "Зинаида" in state, "the dead sinks' deliveries wait"
    assert "shop.order.partially_refunded" in produced["stderr"]
    assert "set aside" in produced["status"]
    assert "AuthenticationError" in produced["wrong keys: run --once"]
    assert produced["notifications"].count("\n") >= ORDERS + 60
    assert produced["stderr"].count("***") >= 2, "keys that the shop said back are blotted out"


def test_no_secret_is_anywhere(produced: dict[str, str]) -> None:
    assert {
        where: sorted(set(SECRET.findall(text))) for where, text in produced.items() if SECRET.search(text)
    } == {}


def test_nothing_personal_but_the_first_name_is_anywhere(produced: dict[str, str]) -> None:
    assert {
        where: sorted(set(PERSONAL.findall(text)))
        for where, text in produced.items()
        if PERSONAL.search(text)
    } == {}


def test_the_first_name_is_only_where_it_has_to_be(produced: dict[str, str]) -> None:
    where = {name for name, text in produced.items() if "Зинаида" in text}
    assert where <= {"notifications", "stdout", "run --once --dry-run"} | {
        name for name in produced if name.startswith("shop-poller.db")
    }


def test_a_name_cannot_forge_a_line(produced: dict[str, str]) -> None:
    for where in ("stdout", "stderr", "/", "/metrics"):
        assert not re.search(r"^X-Admin", produced[where], re.MULTILINE), where
        assert "\u202e" not in produced[where]
        assert "\r" not in produced[where]
