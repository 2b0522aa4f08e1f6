"""Webhooks of several shops: each has its own path and secret, and nobody finds out which shops there are."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import anyio
import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from shop_poller.core.webhooks import Verdict
from shop_poller.runtime.fleet_hooks import FleetHooks
from shop_poller.web import hooks as one_shop
from shop_poller.web.hooks import MAX_BODY, PATH, Hooks
from shop_poller.web.routes import HealthSource, make_app
from shop_poller.web.shop_hooks import ShopHooks
from support.fleet_harness import FleetHarness, Replica, in_virtual_time, shops
from support.hooks import SECRET, headers

pytestmark = pytest.mark.anyio

BODY = b'{"id":7}'
PING = b"webhook_id=12"
NO_HEALTH = cast("HealthSource", None)  # nobody asks for them here
OTHER = "the secret of another shop"
STRANGERS = [
    *["milk", "", "HONEY", "honey/", "honey/tea", "../honey", "ho%ney", "hone\u0443", "мёд", "x" * 5000],
    *["honey\n", "honey ", "honey\x00", "honey?", "honey#", "%68oney", "honey;a=b", "*", "tea.example"],
]
"""Ids that no shop has."""


@dataclass
class Counted:
    """Counts webhooks, as metrics do."""

    found: dict[Verdict, int] = field(default_factory=dict)

    def webhook(self, outcome: Verdict, amount: int = 1) -> None:
        self.found[outcome] = self.found.get(outcome, 0) + amount


@dataclass
class Desk:
    """Two shops with secrets, and what came of their webhooks."""

    triggered: list[str] = field(default_factory=list)
    counted: dict[str, Counted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counted = {shop: Counted() for shop in ("honey", "xn--80a:1.tea_-", "nobody")}
        receivers = {
            shop: Hooks(secret, trigger=partial(self.triggered.append, shop), counter=self.counted[shop])
            for shop, secret in (("honey", SECRET), ("xn--80a:1.tea_-", OTHER))
        }
        shop_hooks = ShopHooks(receivers.get, counter=self.counted["nobody"])
        self.app = make_app(NO_HEALTH, shop_hooks=shop_hooks)

    async def post(
        self,
        shop: str,
        head: Mapping[str, str] | None = None,
        *,
        body: bytes = BODY,
        host: str = "localhost",
        method: str = "POST",
    ) -> httpx.Response:
        """Send a webhook; without other headers, as the first shop signs it."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(
                method, f"{PATH}/{quote(shop, safe='')}", content=body, headers=head or headers(body)
            )


def answer(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return response.status_code, response.content, sorted(response.headers.items())


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_each_shop_has_its_path_and_its_secret(desk: Desk) -> None:
    assert answer(await desk.post("honey"))[:2] == (200, b"")
    other = "xn--80a:1.tea_-"
    assert answer(await desk.post(other, headers(BODY, secret=OTHER)))[:2] == (200, b"")
    assert (await desk.post("honey", headers(BODY, topic="product.updated"))).status_code == 200
    assert desk.triggered == ["honey", other]
    assert desk.counted["honey"].found == {Verdict.ACCEPTED: 1, Verdict.IGNORED: 1}
    assert desk.counted[other].found == {Verdict.ACCEPTED: 1}


async def test_the_secret_of_another_shop_is_none(desk: Desk) -> None:
    assert (await desk.post("honey", headers(BODY, secret=OTHER))).status_code == 401
    assert (await desk.post("xn--80a:1.tea_-")).status_code == 401
    assert desk.triggered == []
    assert desk.counted["honey"].found == {Verdict.REFUSED: 1}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_an_unknown_shop_is_answered_as_a_wrong_signature(desk: Desk, stranger: str) -> None:
    """Whatever is sent: who does not know the secret learns nothing."""
    forged = headers(BODY, secret="a guess")
    assert answer(await desk.post(stranger)) == answer(await desk.post("honey", forged))
    assert answer(await desk.post(stranger, forged)) == answer(await desk.post("honey", forged))
    unsigned = {"x-wc-webhook-topic": "order.updated"}
    assert answer(await desk.post(stranger, unsigned)) == answer(await desk.post("honey", unsigned))
    long = b"x" * 65
    assert answer(await desk.post(stranger, unsigned, body=long)) == answer(
        await desk.post("honey", unsigned, body=long)
    )
    assert answer(await desk.post(stranger, unsigned, body=PING)) == answer(
        await desk.post("honey", unsigned, body=PING)
    )
    assert answer(await desk.post(stranger, method="GET")) == answer(await desk.post("honey", method="GET"))
    assert desk.triggered == []
    assert desk.counted["nobody"].found == {Verdict.REFUSED: 4, Verdict.IGNORED: 1}


async def test_a_body_that_is_too_long_is_refused_alike(desk: Desk) -> None:
    body = b"x" * (MAX_BODY + 1)
    found = {answer(await desk.post(shop, headers(body), body=body))[:2] for shop in ("honey", "milk")}
    assert found == {(413, b"the body has more than 1048576 bytes\n")}


@pytest.mark.parametrize("shop", ["honey", "milk"])
async def test_who_dawdles_is_sent_away_alike(desk: Desk, shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_shop, "READ_S", 0.05)

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append("a part")
            return {"type": "http.request", "body": b"{", "more_body": True}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": f"{PATH}/{shop}", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost"), (b"x-wc-webhook-signature", b"AAAA")],
    }  # fmt: skip
    await desk.app(scope, receive, send)
    assert sent[1]["status"] == 408


async def test_a_delivery_that_comes_twice_is_two_triggers(desk: Desk) -> None:
    """The poller makes one poll of them: nothing depends on what a webhook says."""
    for _ in range(2):
        assert (await desk.post("honey")).status_code == 200
    assert desk.triggered == ["honey", "honey"]


async def test_the_path_answers_under_any_name_and_no_other_path_does(desk: Desk) -> None:
    assert (await desk.post("honey", host="hooks.example")).status_code == 200
    transport = httpx.ASGITransport(desk.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example") as client:
        assert (await client.post(f"{PATH}x/honey")).status_code == 421
        assert (await client.post("/shops/honey/actions/poll")).status_code == 421


async def test_without_a_secret_there_are_no_such_paths() -> None:
    transport = httpx.ASGITransport(make_app(NO_HEALTH))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.post(f"{PATH}/honey")).status_code == 404


async def test_the_log_names_known_shops_and_nothing_that_was_sent(desk: Desk) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            await desk.post("honey")
            await desk.post("milk-and-secrets")
            await desk.post("honey", headers(BODY, secret="a guess"))
    told = [entry["event"].partition(";")[0] for entry in logs if entry["log_level"] != "debug"]
    assert told == [
        "webhooks of the shop arrive",
        "a webhook names no shop that has a webhook secret",
        "a webhook was refused",
        "a webhook was refused",
    ]
    assert "milk" not in repr(logs)
    assert SECRET not in repr(logs)


# --- Fleets ---


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetHarness:
    """Of four shops, the last one has no secret."""
    secrets = ["secret number 0", "secret number 1", "secret number 2", None]
    known = [
        shop.model_copy(update={"shop_webhook_secret": secret and SecretStr(secret)})
        for shop, secret in zip(shops(4), secrets, strict=True)
    ]
    made = FleetHarness(tmp_path, known)
    in_virtual_time(monkeypatch, made)
    return made


@asynccontextmanager
async def listener(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    shop_hooks = FleetHooks(replica.fleet, replica.metrics_registry).receiver()
    transport = httpx.ASGITransport(make_app(NO_HEALTH, shop_hooks=shop_hooks))
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example") as client:
        yield client


def counted(replica: Replica, outcome: str) -> float:
    found = replica.metrics_registry.registry.get_sample_value("shop_fleet_hints_total", {"outcome": outcome})
    assert found is not None
    return found


async def test_a_webhook_polls_its_shop_and_no_other(fleet: FleetHarness) -> None:
    async with fleet.afloat() as launch:
        one = launch(fleet.replica("one"))
        await anyio.sleep(30)
        async with listener(one) as client:
            began = anyio.current_time()
            signed = headers(BODY, secret="secret number 1")
            for _ in range(5):  # as if somebody had recorded it
                assert (await client.post(f"{PATH}/shop-1", content=BODY, headers=signed)).status_code == 200
            assert (await client.post(f"{PATH}/shop-2", content=BODY, headers=signed)).status_code == 401
            assert (await client.post(f"{PATH}/shop-3", content=BODY, headers=signed)).status_code == 401
            await anyio.sleep(3)
            metrics = (await one.health_reporter.exposition()).decode()
    polled = [poll.shop for poll in fleet.polls if began <= poll.began < began + 3]
    assert "shop-1" in polled
    assert 'shop_hints_total{outcome="accepted",shop="shop-1"} 5.0' in metrics
    assert 'shop_hints_total{outcome="refused",shop="shop-2"} 1.0' in metrics
    assert counted(one, "refused") == 1


async def test_a_replica_that_does_not_watch_the_shop_says_yes_and_does_nothing(fleet: FleetHarness) -> None:
    """As the follower of a single shop does. It knows the secret, so a forged one is refused."""
    follower = fleet.replica("follower")
    async with fleet.afloat() as launch:
        launch(fleet.replica("leader"))
        await anyio.sleep(30)
        async with listener(follower) as client:
            polls = len(fleet.polls)
            for secret, status in (("secret number 1", 200), ("a guess", 401)):
                signed = headers(BODY, secret=secret)
                response = await client.post(f"{PATH}/shop-1", content=BODY, headers=signed)
                assert response.status_code == status
            assert len(fleet.polls) == polls
    assert (counted(follower, "accepted"), counted(follower, "refused")) == (1, 1)


async def test_without_any_secret_a_fleet_has_no_path(fleet: FleetHarness) -> None:
    fleet.shops = shops(2)
    replica = fleet.replica("one")
    assert FleetHooks(replica.fleet, replica.metrics_registry).receiver() is None
