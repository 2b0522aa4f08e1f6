"""The actions of several shops: passed to the page of the shop, with one guard for all."""

import httpx
import pytest

from shop_poller.web.admin_auth import AdminAuth
from shop_poller.web.routes import make_app
from shop_poller.web.shop_actions import ShopActions
from shop_poller.web.status_page import StatusPage
from support.scene import NO_HEALTH, TOKEN, Stage

pytestmark = pytest.mark.anyio

BEARER = {"authorization": f"Bearer {TOKEN}"}


async def answers(
    *paths: str, token: str = BEARER["authorization"], times: int = 1
) -> tuple[list[str], Stage]:
    """What programs are answered, with the status, and the shop `tea`."""
    stage, admin_auth = Stage(), AdminAuth(TOKEN, shop="tea")
    page = StatusPage(stage, shop="tea", locale="en", admin_auth=admin_auth)
    actions = ShopActions({"tea", "honey"}, admin_auth, {"tea": page}.get)
    app = make_app(NO_HEALTH, make_shop_actions=lambda: actions)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers={"authorization": token}
    ) as client:
        found = [await client.post(path, data={"sink": "crm", "seconds": "9"}) for path in paths * times]
    return [f"{one.status_code} {one.text.strip()}" for one in found], stage


async def test_an_action_reaches_its_shop() -> None:
    found, stage = await answers("/shops/tea/actions/poll", "/shops/tea/actions/mute")
    assert [one[:3] for one in found] == ["200", "200"]
    assert stage.done == ["poll", "mute crm 9"]


@pytest.mark.parametrize("action", ["poll", "mute", "unmute"])
async def test_a_shop_that_is_not_here_is_named(action: str) -> None:
    found, stage = await answers(f"/shops/honey/actions/{action}", f"/shops/milk/actions/{action}")
    assert found == [
        "409 This replica does not watch the shop; ask the one that does.",
        "409 No shop in the daemon's settings has this id.",
    ]
    assert stage.done == []


async def test_wrong_tokens_are_counted_over_all_shops() -> None:
    found, stage = await answers(
        "/shops/tea/actions/poll", "/shops/honey/actions/poll", "/shops/milk/actions/poll",
        token="Bearer wrong", times=3,
    )  # fmt: skip
    assert [one[:3] for one in found] == ["401"] * 5 + ["429"] * 4
    assert stage.done == []


async def test_there_is_no_page_and_without_a_token_nothing() -> None:
    app = make_app(NO_HEALTH)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.post("/shops/tea/actions/poll", headers=BEARER)).status_code == 404
        assert (await client.get("/")).status_code == 404
