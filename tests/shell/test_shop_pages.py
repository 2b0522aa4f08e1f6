"""The pages and actions of single shops of a fleet: each has its page, with one guard for all."""

import httpx
import pytest

from shop_poller.web.routes import make_app
from support.fleet_scene import FleetStage, app_of
from support.scene import NO_HEALTH, TOKEN

pytestmark = pytest.mark.anyio

BEARER = {"authorization": f"Bearer {TOKEN}"}


async def answers(
    *paths: str, token: str = BEARER["authorization"], times: int = 1
) -> tuple[list[str], FleetStage]:
    """What programs are answered, with the status, and the shops."""
    stage = FleetStage(elsewhere=frozenset({"honey"}))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app_of(stage)),
        base_url="http://localhost",
        headers={"authorization": token},
    ) as client:
        found = [await client.post(path, data={"sink": "crm", "seconds": "9"}) for path in paths * times]
    return [f"{one.status_code} {one.text.strip()}" for one in found], stage


def done(stage: FleetStage) -> list[str]:
    return [f"{shop} {action}" for shop, one in stage.stages.items() for action in one.done]


async def test_an_action_reaches_its_shop() -> None:
    found, stage = await answers("/shops/tea/actions/poll", "/shops/tea/actions/mute")
    assert [one[:3] for one in found] == ["200", "200"]
    assert done(stage) == ["tea poll", "tea mute crm 9"]


@pytest.mark.parametrize("action", ["poll", "mute", "unmute"])
async def test_a_shop_that_is_not_here_is_named(action: str) -> None:
    found, stage = await answers(f"/shops/honey/actions/{action}", f"/shops/vinegar/actions/{action}")
    assert found == [
        "409 This replica does not watch the shop; ask the one that does.",
        "409 No shop in the daemon's settings has this id.",
    ]
    assert done(stage) == []


async def test_a_dead_letter_of_a_shop_of_another_replica_is_sent_again_from_here() -> None:
    stage = FleetStage(elsewhere=frozenset({"tea"}))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app_of(stage)), base_url="http://localhost", headers=BEARER
    ) as client:
        assert (await client.post("/shops/tea/actions/replay", data={"seq": "57"})).status_code == 200
    assert done(stage) == ["tea replay 57"]


async def test_wrong_tokens_are_counted_over_all_shops() -> None:
    found, stage = await answers(
        "/shops/tea/actions/poll", "/shops/honey/actions/poll", "/shops/milk/actions/poll",
        token="Bearer wrong", times=3,
    )  # fmt: skip
    assert [one[:3] for one in found] == ["401"] * 5 + ["429"] * 4
    assert done(stage) == []


async def test_without_a_token_there_is_nothing_to_act_with() -> None:
    for app in (app_of(FleetStage(), token=None), make_app(NO_HEALTH)):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            for path in ("/shops/tea/actions/poll", "/actions/poll", "/sign-in", "/shops/tea/sign-in"):
                assert (await client.post(path, headers=BEARER)).status_code == 404


async def test_a_shop_has_the_page_of_a_single_one_and_a_link_back() -> None:
    stage = FleetStage()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app_of(stage)), base_url="http://localhost"
    ) as client:
        page = await client.get("/shops/tea/?lang=en")
        assert page.status_code == 200
        assert "telegram: no connection" in page.text.replace("<bdi>", "").replace("</bdi>", "")
        assert '<a href="../../?lang=en">All shops</a>' in page.text
        redirect = await client.get("/shops/tea?lang=ru")
        assert (redirect.status_code, redirect.headers["location"]) == (303, "tea/?lang=ru")
        missing = await client.get("/shops/vinegar/")
        assert missing.status_code == 404
        assert "No shop in the daemon&#x27;s settings has this id." in missing.text


async def test_a_page_is_kept_so_that_clients_share_its_snapshot() -> None:
    stage = FleetStage()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app_of(stage)), base_url="http://localhost"
    ) as client:
        for _ in range(5):
            assert (await client.get("/shops/tea/")).status_code == 200
    assert stage.stages["tea"].looks == 1
