"""Tokens for reading: without one nothing is shown, and that of a tenant shows its own shops only."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import cast

import httpx
import pytest

from shop_poller.web.admin_auth import MOST_SESSIONS, READS_ALL, AdminAuth, Grant
from shop_poller.web.routes import HealthSource, make_app
from shop_poller.web.status_page import StatusPage
from support.fleet_scene import NAMES, OF_TEA, OF_TWO, READ_TOKEN, SCENE, TENANTS, FleetStage, app_of
from support.scene import SHOP, TOKEN, Stage

pytestmark = pytest.mark.anyio
URL = "http://127.0.0.1:9108"
OTHERS_OF_TEA = {shop for shop in SCENE if shop != "tea"}


class Health:
    """A daemon that names its shops in its metrics only."""

    async def health(self) -> dict[str, str]:
        return {"status": "healthy", "shops": "7 of 7"}

    async def readiness(self) -> dict[str, str]:
        return {"status": "ready", "shops": "7 of 7"}

    async def exposition(self) -> bytes:
        return "".join(f'shop_up{{shop="{shop}"}} 1\n' for shop in SCENE).encode()


@asynccontextmanager
async def visiting(
    monkeypatch: pytest.MonkeyPatch, *, token: str | None = TOKEN, read_token: str | None = READ_TOKEN
) -> AsyncIterator[tuple[httpx.AsyncClient, FleetStage]]:
    monkeypatch.setattr("support.fleet_scene.NO_HEALTH", cast("HealthSource", Health()))
    stage = FleetStage()
    app = app_of(stage, token=token, read_token=read_token, tenants=TENANTS)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=URL, headers={"origin": URL}
    ) as client:
        yield client, stage


async def sign_in(client: httpx.AsyncClient, token: str, path: str = "/sign-in") -> int:
    client.cookies.clear()
    return (await client.post(path, data={"token": token})).status_code


def names_of(shops: set[str]) -> re.Pattern[str]:
    """What would show that there are these shops."""
    words = {word for shop in shops for word in (shop, NAMES[shop])}
    return re.compile("|".join(map(re.escape, sorted(words))), re.IGNORECASE)


PATHS = [
    "/",
    *(
        f"/?{query}"
        for query in ("q=milk", "state=needy", "tag=ru", "page=2", "lang=ru", "done=poll&count=1")
    ),
    "/sign-in",
    "/metrics",
    "/healthz",
    "/livez",
    "/readyz",
    "/favicon.ico",
    *(
        f"/shops/{shop}{rest}"
        for shop, rest in product([*SCENE, "vinegar"], ["", "/", "/sign-in", "/?lang=ru"])
    ),
    "/shops/",
    "/shops//",
    "/shops/tea/../milk/",
    "/shops/tea/%2e%2e/milk/",
    "/shops/tea%2f..%2fmilk/",
    "/shops/TEA/",
    "//shops/milk/",
]
POSTS = [
    "/actions/poll",
    "/actions/mute",
    "/sign-out",
    *(
        f"/shops/{shop}/actions/{action}"
        for shop, action in product(SCENE, ["poll", "mute", "replay", "drop"])
    ),
]


@pytest.mark.parametrize("by_program", [False, True])
async def test_no_path_shows_a_tenant_anything_of_another(
    monkeypatch: pytest.MonkeyPatch, *, by_program: bool
) -> None:
    others = names_of(OTHERS_OF_TEA)
    async with visiting(monkeypatch) as (client, stage):
        headers = {"authorization": f"Bearer {OF_TEA}"} if by_program else {}
        for method, path in [*(("GET", path) for path in PATHS), *(("POST", path) for path in POSTS)]:
            if not by_program:
                await sign_in(client, OF_TEA)
            data = {"shop": [*SCENE], "seconds": "9", "sink": "crm", "seq": "57"}
            answer = await client.request(
                method, path, headers=headers, data=data if method == "POST" else None
            )
            text = answer.text.replace(str(httpx.URL(path).path), "")
            shown = [one for one in others.findall(text + str(answer.headers)) if one.lower() not in path]
            assert not shown, (path, shown)
            if method == "POST":
                assert answer.status_code in {303, 403}, path
            if re.search("|".join(OTHERS_OF_TEA), path) and path.startswith("/shops/") and path[-1] == "/":
                assert answer.status_code == 404, path
        assert not any(one.done for one in stage.stages.values())
        looked_at = {shop for shop, one in stage.stages.items() if one.looks}
        assert looked_at == {"tea"}


async def test_of_another_tenants_shop_and_of_none_the_same_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with visiting(monkeypatch) as (client, _):
        await sign_in(client, OF_TEA)
        pages = [await client.get(f"/shops/{shop}/") for shop in ("milk", "vinegar")]
        texts = [page.text.replace("milk", "X").replace("vinegar", "X") for page in pages]
        assert texts[0] == texts[1]
        assert [page.status_code for page in pages] == [404, 404]


async def test_a_tenant_sees_its_shop_and_one_with_several_shops_those(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with visiting(monkeypatch) as (client, _):
        assert await sign_in(client, OF_TEA) == 303
        start = await client.get("/")
        assert (start.status_code, start.headers["location"]) == (303, "shops/tea/")
        page = (await client.get("/shops/tea/?lang=en")).text
        assert "no connection" in page
        assert "All shops" not in page  # there is nothing to go back to
        assert "Your token is for reading only." in page
        assert "Sign out" in page
        assert await sign_in(client, OF_TWO) == 303
        page = (await client.get("/?lang=en")).text
        assert page.count("<tr>") == 2 + 1
        assert "1 of 2 shops needs you" in page
        assert not names_of(SCENE.keys() - {"honey", "milk"}).search(page)
        assert '<option value="eu"' not in page
        assert (await client.get("/shops/milk/")).status_code == 200
        assert (await client.get("/shops/tea/")).status_code == 404


async def test_without_a_token_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with visiting(monkeypatch) as (client, stage):
        for path in ("/", "/shops/tea/", "/shops/vinegar/"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert 'type="password"' in answer.text
            assert not names_of(SCENE.keys() - {"tea"}).search(answer.text)
            wrong = await client.get(path, headers={"authorization": "Bearer wrong"})
            assert (wrong.status_code, wrong.text) == (401, "The token is wrong.\n")
        assert (await client.post("/shops/tea/actions/poll")).status_code == 401
        assert stage.looks == sum(one.looks for one in stage.stages.values()) == 0


@pytest.mark.parametrize(("token", "acts"), [(TOKEN, True), (READ_TOKEN, False)])
async def test_who_reads_all_sees_all_and_only_the_admin_acts(
    monkeypatch: pytest.MonkeyPatch, token: str, *, acts: bool
) -> None:
    async with visiting(monkeypatch) as (client, stage):
        assert await sign_in(client, token) == 303
        page = (await client.get("/?lang=en")).text
        assert page.count("<tr>") == len(SCENE) + 1
        assert ("formaction" in page) == acts
        answer = await client.post("/shops/tea/actions/poll")
        assert answer.status_code == (303 if acts else 403)
        answer = await client.post("/actions/poll", data={"shop": ["tea"]})
        assert answer.status_code == (303 if acts else 403)
        assert bool(stage.stages["tea"].done) == acts
        await client.post("/sign-out")
        assert (await client.get("/")).status_code == 401


async def test_metrics_name_all_shops_so_tenants_do_not_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with visiting(monkeypatch) as (client, _):
        codes = {}
        for token in (None, OF_TEA, OF_TWO, READ_TOKEN, TOKEN):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            answer = await client.get("/metrics", headers=headers)
            codes[token] = answer.status_code
            assert ("milk" in answer.text) == (answer.status_code == 200)
        assert codes == {None: 401, OF_TEA: 401, OF_TWO: 401, READ_TOKEN: 200, TOKEN: 200}
        await sign_in(client, OF_TEA)
        assert (await client.get("/metrics")).status_code == 401


async def test_without_tenants_metrics_are_for_everybody_as_ever() -> None:
    app = app_of(FleetStage(), read_token=READ_TOKEN)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        with pytest.raises(AttributeError):  # asked of the stand-in for health, so it was not refused
            await client.get("/metrics")


async def test_a_form_of_one_shop_signs_in_a_tenant_who_comes_back_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with visiting(monkeypatch, token=None, read_token=None) as (client, _):
        answer = await client.post("/shops/tea/sign-in", data={"token": OF_TEA})
        assert (answer.status_code, answer.headers["location"]) == (303, "./?lang=en")
        assert (await client.get("/shops/tea/")).status_code == 200
        assert (await client.post("/actions/poll")).status_code == 404  # nobody may act


async def test_a_single_shop_may_want_a_token_for_reading_too() -> None:
    stage = Stage()
    admin_auth = AdminAuth(None, shop=SHOP, readers={READ_TOKEN: READS_ALL})
    page = StatusPage(stage, shop=SHOP, locale="en", admin_auth=admin_auth)
    app = make_app(cast("HealthSource", Health()), None, lambda: page, signs_in=True)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=URL, headers={"origin": URL}
    ) as client:
        assert (await client.get("/")).status_code == 401
        assert stage.looks == 0
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/", headers={"authorization": f"Bearer {READ_TOKEN}"})).status_code == 200
        assert await sign_in(client, READ_TOKEN) == 303
        page_text = (await client.get("/")).text
        assert SHOP in page_text
        assert "SHOP_ADMIN_TOKEN" not in page_text
        assert (await client.post("/actions/poll")).status_code == 404


def test_the_sessions_of_one_token_do_not_end_those_of_another() -> None:
    admin_auth = AdminAuth(TOKEN, shop=SHOP, readers={OF_TEA: Grant(shops=frozenset({"tea"}))})

    def request(session: str) -> httpx.Request:
        return cast("httpx.Request", type("Asked", (), {"cookies": {admin_auth.cookie: session}}))

    of_admin = admin_auth.start_session(Grant(acts=True))
    of_tenant = [admin_auth.start_session(Grant(shops=frozenset({"tea"}))) for _ in range(MOST_SESSIONS + 1)]
    grants = [admin_auth.session_grant(request(one)) for one in (of_admin, *of_tenant)]  # type: ignore[arg-type] # a stand-in
    assert [grant is not None for grant in grants] == [True, False, *[True] * MOST_SESSIONS]
