"""The overview of several shops: what it says, in which order, what can be chosen, and what can be done."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, get_args
from zoneinfo import ZoneInfo

import httpx
import pytest

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.messages import Locale
from shop_poller.locales import page_texts
from shop_poller.ports import ShopState
from shop_poller.web.fleet_rows import (
    MOST_ROWS,
    MOST_SELECTABLE,
    STATES,
    FleetQuery,
    ShopVerdict,
    judged,
    worst_first,
)
from shop_poller.web.fleet_snapshot import FleetRow
from shop_poller.web.requests import MOST_SELECTED
from shop_poller.web.snapshot import ActionResult
from shop_poller.web.troubles import SECTIONS
from support.fleet_scene import SCENE, FleetStage, app_of, many, row
from support.scene import NOW, TOKEN, WELL, ago

pytestmark = pytest.mark.anyio
URL = "http://127.0.0.1:9108"
LARGEST = 200_000
"""Bytes of the page of a thousand shops."""
EVIL = "<script>alert(1)</script>\"'><img src=x>{0}\u202e\x00"


@asynccontextmanager
async def visiting(
    stage: FleetStage, *, signed_in: bool = False, **tokens: Any
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(stage, **tokens))
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers={"origin": URL}) as client:
        if signed_in:
            assert (await client.post("/sign-in", data={"token": TOKEN})).status_code == 303
        yield client


def words(page: str) -> str:
    """The text of a page, with a line for each row."""
    page = re.sub(r"<style>.*</style>|</?bdi>|<(small|i)>", " ", page, flags=re.DOTALL)
    lines = re.sub(r"<[^>]*>", " ", page.replace("<tr>", "\n<tr>")).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


async def shown(stage: FleetStage | None = None, query: str = "lang=en", **how: Any) -> str:
    async with visiting(stage or FleetStage(), **how) as client:
        answer = await client.get(f"/?{query}")
        assert answer.status_code == 200
        return words(answer.text)


def rows_of(text: str) -> list[str]:
    """The rows of the table, without its head."""
    return [line for line in text.splitlines() if re.search(r"\?|\d\d:\d\d", line)][:-1]


# --- What it says ---


async def test_the_worst_come_first_and_one_line_says_how_it_goes() -> None:
    text = await shown()
    assert "3 of 7 shops need you" in text
    assert "something does not work: 2 need attention: 1 starting: 1 polling is off: 1 OK: 2" in text
    order = ["Milk", "Tea & Co", "Käse", "Salt", "Wine", "Bread", "Мёд и пчёлы"]
    found = re.findall(r"^(Milk|Tea &amp; Co|Käse|Salt|Wine|Bread|Мёд и пчёлы)", text, flags=re.MULTILINE)
    assert [name.replace("&amp;", "&") for name in found] == order


async def test_a_row_says_state_since_when_polls_counts_circuit_and_replica() -> None:
    text = await shown()
    assert "Milk milk ru polls fail 16:33:07 16:33:07 12 31 0 0 paused: shop host-a/4711" in text
    assert (
        "Tea &amp; Co tea eu wholesale telegram: no connection +2 11:35:07 11:59:49 12 31 14 2"
        " paused: telegram host-a/4711"
    ) in text
    assert "Käse cheese eu dead letters: 3 11:59:49 12 31 0 3 OK host-a/4711" in text
    assert "Salt salt being read ? ? ? ? ?" in text
    assert "Bread bread OK 11:59:49 12 31 0 0 ? host-b/17" in text  # only host-b knows of its circuits


async def test_a_time_of_another_day_has_its_date() -> None:
    assert WELL.state is not None
    long_ago = replace(WELL, state=ShopState(ago(days=9), last_poll_at=ago(hours=13)), polling=False)
    text = await shown(FleetStage([replace(row("wine", long_ago), zone=ZoneInfo("Europe/Moscow"))]))
    assert "24.11.2026 02:00" not in text
    assert "25.11.2026 02:00" not in text  # 13 h before 15:00 in Moscow is still today there
    assert "02:00:07" in text
    text = await shown(FleetStage([replace(row("wine", long_ago), zone=ZoneInfo("UTC"))]))
    assert "24.11.2026 23:00" in text


@pytest.mark.parametrize("locale", get_args(Locale))
def test_every_problem_and_state_has_its_words(locale: Locale) -> None:
    texts = page_texts(locale)
    for kind in (*SECTIONS, "poll failing", *ShopVerdict, "reading"):
        if kind in {"disk", "redis", "bug", "keys", "shop", "bad", "some"}:  # sections of other problems
            continue
        assert f"row {kind}" in texts
    for state in STATES:
        assert f"shops {state}" in texts


async def test_one_and_none_are_said_too() -> None:
    tea, honey = row("tea", SCENE["tea"]), row("honey", SCENE["honey"])
    assert "1 of 2 shops needs you" in await shown(FleetStage([tea, honey]))
    assert "All is well: 1 of 1 shops" in await shown(FleetStage([honey]))
    starting = await shown(FleetStage([honey, row("salt", None)]))
    assert "All is well" not in starting
    assert "No shop is known to need you; 1 of 2 are starting or being read" in starting


async def test_what_is_not_ours_stays_text() -> None:
    evil = replace(row("tea", SCENE["tea"]), name=EVIL, replica=EVIL)
    async with visiting(FleetStage([evil])) as client:
        page = (await client.get("/", params={"q": EVIL, "tag": EVIL, "state": EVIL, "page": EVIL})).text
        page += (await client.get("/")).text
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page


async def test_it_is_html_that_nobody_keeps_frames_or_extends() -> None:
    async with visiting(FleetStage(), signed_in=True) as client:
        answer = await client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script|javascript:| on\w+=| style=", answer.text)


# --- What can be chosen ---


@pytest.mark.parametrize(
    ("query", "shops"),
    [
        ("q=пчЁЛ", ["honey"]),
        ("q=TEA", ["tea"]),
        ("q=wholes", ["tea"]),
        ("tag=eu", ["tea", "cheese"]),
        ("tag=wholesale", ["tea"]),
        ("tag=hol", []),
        ("state=needy", ["milk", "tea", "cheese"]),
        ("state=bad", ["milk", "tea"]),
        ("state=some", ["cheese"]),
        ("state=starting", ["salt"]),
        ("state=off", ["wine"]),
        ("state=good", ["bread", "honey"]),
        ("state=nonsense", ["milk", "tea", "cheese", "salt", "wine", "bread", "honey"]),
        ("state=bad&tag=eu&q=t", ["tea"]),
        ("page=0&q=tea", ["tea"]),
        ("page=9999&q=tea", ["tea"]),
        ("page=²&q=tea", ["tea"]),
    ],
)
def test_shops_are_chosen(query: str, shops: list[str]) -> None:
    asked = FleetQuery.of(httpx.QueryParams(query))
    every = worst_first([judged(row(*one)) for one in SCENE.items()])
    assert [one.row.shop for one in every if asked.accepts(one)] == shops


async def test_a_choice_is_kept_by_links_and_forms_and_the_summary_is_of_all() -> None:
    async with visiting(FleetStage(), signed_in=True) as client:
        page = (await client.get("/?lang=ru&q=tea+%26&tag=eu&state=bad&still=1")).text
    assert "3 из 7" in page
    assert 'value="tea &amp;"' in page
    kept = "q=tea+%26&amp;state=bad&amp;tag=eu"
    assert f'href="./?lang=en&amp;still=1&amp;{kept}"' in page
    assert f'formaction="actions/poll?lang=ru&amp;still=1&amp;{kept}"' in page
    assert '<input type="hidden" name="lang" value="ru"><input type="hidden" name="still" value="1">' in page


async def test_nothing_found_is_said() -> None:
    assert "No shop matches." in await shown(query="lang=en&q=vinegar")


async def test_many_shops_have_several_pages() -> None:
    stage = FleetStage(many(MOST_ROWS + 3))
    async with visiting(stage) as client:
        first, second = [(await client.get(f"/?q=shop&page={page}")).text for page in (1, 2)]
        assert (first.count("<tr>"), second.count("<tr>")) == (MOST_ROWS + 1, 3 + 1)
        assert '<a href="./?q=shop&amp;page=2">2</a>' in first
        assert 'aria-current="page">2</a>' in second
    async with visiting(stage, signed_in=True) as client:
        assert (await client.get("/")).text.count("<tr>") == MOST_SELECTABLE + 1


@pytest.mark.parametrize("locale", get_args(Locale))
@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_thousand_shops_are_a_small_page(locale: Locale, *, signed_in: bool) -> None:
    async with visiting(FleetStage(many(1000)), signed_in=signed_in) as client:
        page = await client.get(f"/?lang={locale}")
    assert len(page.content) < LARGEST


async def test_a_page_is_written_once_however_many_look() -> None:
    stage = FleetStage(many(60))
    async with visiting(stage) as client:
        first = [(await client.get("/")).text for _ in range(3)]
        assert len({*first}) == 1
        stage.all_rows = many(2)
        assert (await client.get("/")).text.count("<tr>") == 3


async def test_it_refreshes_itself_unless_shops_are_being_selected() -> None:
    async with visiting(FleetStage()) as client:
        assert 'content="10;url=./?q=tea"' in (await client.get("/?q=tea")).text
        assert "http-equiv" not in (await client.get("/?still=1")).text
    async with visiting(FleetStage(), signed_in=True) as client:
        assert "http-equiv" not in (await client.get("/")).text


# --- Under a sub-path ---


async def test_every_address_is_relative_so_a_proxy_may_put_it_anywhere() -> None:
    stage = FleetStage(many(MOST_ROWS + 1))
    stage.all_rows = [*stage.all_rows, row("tea", SCENE["tea"])]
    seen: dict[str, int] = {}
    async with visiting(stage, signed_in=True) as client:
        base = httpx.URL("https://poller.example/ops/poller/")
        todo = [base]
        while todo and len(seen) < 60:
            url = todo.pop()
            assert url.path.startswith(base.path), url
            path = url.raw_path.decode().removeprefix(base.path.rstrip("/"))
            if path in seen:
                continue
            answer = await client.get(path)
            seen[path] = answer.status_code
            if "location" in answer.headers:
                todo.append(url.join(answer.headers["location"]))
            links = re.findall(r"(?:href|action|formaction)=\"?([^\"\s>]+)", answer.text)
            links = [link.replace("&amp;", "&") for link in links if not link.startswith(("data:", "#"))]
            todo += [url.join(link) for link in dict.fromkeys(links) if "shop-" not in link]
            assert not any(re.match(r"/|\w+:", link) for link in links)
    assert seen["/"] == seen["/shops/tea/"] == 200
    assert {code for path, code in seen.items() if "actions" not in path and "sign-out" not in path} == {200}


# --- What can be done ---


async def test_selected_shops_are_polled_muted_and_unmuted() -> None:
    stage = FleetStage()
    async with visiting(stage, signed_in=True) as client:
        for action, done in (("poll", "being polled"), ("mute", "are muted"), ("unmute", "no longer muted")):
            answer = await client.post(
                f"/actions/{action}?lang=en&q=t", data={"shop": ["tea", "honey", "tea"], "seconds": "3600"}
            )
            assert answer.status_code == 303
            assert answer.headers["location"] == f"../?lang=en&q=t&done={action}&count=2"
            page = await client.get(answer.headers["location"].removeprefix(".."))
            assert re.search(rf'role="status">[^<]*{done}: 2\.', page.text)
    for shop in ("tea", "honey"):
        assert stage.stages[shop].done == [
            "poll", "mute crm 3600", "mute telegram 3600", "mute crm 0", "mute telegram 0",
        ]  # fmt: skip


async def test_a_program_is_told_which_shops_it_was_not_done_for() -> None:
    stage = FleetStage()
    stage.stages["wine"].answer = ActionResult.POLLING_OFF
    stage.stages["milk"].broken = TemporaryError(ErrorKind.STORE, "state in redis://x: no connection")
    async with visiting(stage) as client:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        some = {"shop": ["tea", "bread", "wine", "vinegar", "milk"]}
        answer = await client.post("/actions/poll", headers=bearer, data=some)
        assert (answer.status_code, answer.text.splitlines()) == (
            409,
            [
                "bread: This replica does not watch the shop; ask the one that does.",
                "wine: Polling is off: SHOP_POLLING_ENABLED is false.",
                "vinegar: No shop in the daemon's settings has this id.",
                "milk: The state cannot be used: state in redis://x: no connection",
            ],
        )
        good = await client.post("/actions/poll", headers=bearer, data={"shop": ["tea", "honey"]})
        assert (good.status_code, good.text) == (200, "Shops that are being polled: 2.\n")
    assert stage.stages["tea"].done == ["poll", "poll"]
    assert stage.stages["bread"].done == []


async def test_a_browser_sees_why_too() -> None:
    async with visiting(FleetStage(), signed_in=True) as client:
        answer = await client.post("/actions/poll?lang=en&q=t", data={"shop": ["bread"]})
    assert answer.status_code == 409
    assert "bread: This replica does not watch the shop; ask the one that does." in answer.text
    assert 'href="../?lang=en&amp;q=t"' in answer.text


@pytest.mark.parametrize(
    ("action", "data", "status"),
    [
        ("poll", {}, 400),
        ("mute", {"shop": ["tea"]}, 400),
        ("mute", {"shop": ["tea"], "seconds": "86401"}, 400),
        ("replay", {"shop": ["tea"], "seq": "1"}, 404),
        ("poll", {"shop": [f"shop-{number}" for number in range(MOST_SELECTED + 1)]}, 413),
        ("poll", {"shop": ["x" * 32_768]}, 413),
        ("poll", {f"shop{number}": "x" for number in range(MOST_SELECTED + 9)}, 400),
    ],
)
async def test_a_selection_has_bounds(action: str, data: dict[str, Any], status: int) -> None:
    stage = FleetStage()
    async with visiting(stage, signed_in=True) as client:
        assert (await client.post(f"/actions/{action}", data=data)).status_code == status
    assert not any(one.done for one in stage.stages.values())


async def test_who_is_not_signed_in_cannot_act_and_sees_nothing_to_act_with() -> None:
    stage = FleetStage()
    async with visiting(stage) as client:
        assert (await client.post("/actions/poll", data={"shop": ["tea"]})).status_code == 401
        page = (await client.get("/")).text
        assert "checkbox" not in page
        assert "formaction" not in page
    async with visiting(stage, signed_in=True) as client:
        foreign = await client.post(
            "/actions/poll", data={"shop": ["tea"]}, headers={"origin": "https://evil"}
        )
        assert foreign.status_code == 403
        assert "checkbox" in (await client.get("/")).text
    assert stage.stages["tea"].done == []


def test_rows_with_the_same_verdict_are_sorted_by_age_then_by_name() -> None:
    milk = SCENE["milk"]
    assert milk is not None
    assert milk.failure is not None
    older = replace(milk, failure=replace(milk.failure, since=ago(hours=5)))
    rows = [
        FleetRow("b", "b", snapshot=milk),
        FleetRow("a", "A", snapshot=milk),
        FleetRow("c", "c", snapshot=older),
    ]
    assert [one.row.shop for one in worst_first(map(judged, rows))] == ["c", "a", "b"]


def test_that_nobody_watches_a_shop_dates_from_its_last_poll() -> None:
    lost = replace(WELL, leads=False, leader="", now=NOW)
    one = judged(FleetRow("a", "a", snapshot=lost))
    assert (one.verdict, one.trouble and one.trouble.kind, one.since) == (
        ShopVerdict.BAD, "leader", lost.state and lost.state.last_poll_at,
    )  # fmt: skip
