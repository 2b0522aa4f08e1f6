"""The status page in a real browser, without JavaScript: on a phone, dark and light, in both languages."""

import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from support.browser import CHROMIUM, Scheme, browsing
from support.fleet_scene import FleetStage, fleet_staged
from support.scene import SHOP, TOKEN, TROUBLED, WELL, Stage, staged

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}; apt install chromium"),
]

SCENES = pytest.mark.parametrize(("scheme", "lang"), [("light", "ru"), ("dark", "en")])
LEAST_CONTRAST = 4.5
"""WCAG 2, AA, for text."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # a real browser needs real time


@pytest.fixture
async def stage() -> Stage:
    return Stage(TROUBLED)


@pytest.fixture
async def address(stage: Stage) -> AsyncIterator[str]:
    async with staged(stage) as address:
        yield address


async def watched(page: "Page") -> list[str]:
    """What the browser will complain of: above all what the policy forbids."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    return complaints


@SCENES
async def test_it_fits_a_phone_and_asks_for_nothing_else(address: str, scheme: Scheme, lang: str) -> None:
    async with browsing(scheme=scheme, lang=lang) as page:
        complaints = await watched(page)
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{address}/")
        assert await page.get_attribute("html", "lang") == lang
        size = await page.locator("html").evaluate("root => [root.scrollWidth, root.clientWidth]")
        assert size[0] <= size[1] == 390
        assert await page.title() != ""
        assert complaints == []
        assert [url for url in requested if not url.startswith("data:")] == [f"{address}/"]


@SCENES
async def test_every_text_can_be_read_on_its_ground(address: str, scheme: Scheme, lang: str) -> None:
    async with browsing(scheme=scheme, lang=lang) as page:
        await signed_in(page, address)
        looks = await page.locator("body *").evaluate_all(TEXTS_WITH_COLOURS)
        assert len(looks) > 50
        grounds = {colour(look["ground"]) for look in looks}
        assert len(grounds) >= 3  # the style was let in
        for look in looks:
            fore, ground = colour(look["text"]), colour(look["ground"])
            assert contrast(fore, ground) >= LEAST_CONTRAST, look


@SCENES
async def test_it_has_landmarks_headings_and_names(address: str, scheme: Scheme, lang: str) -> None:
    async with browsing(scheme=scheme, lang=lang) as page:
        await signed_in(page, address)
        for landmark in ("banner", "main", "contentinfo", "navigation"):
            assert await page.get_by_role(landmark).count() == 1, landmark
        levels = await page.locator("h1, h2, h3").evaluate_all("all => all.map(one => +one.tagName[1])")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert await page.locator("table").count() == 2
        for table in await page.locator("table").all():
            assert await table.get_by_role("columnheader").count() >= 2
            assert await table.get_by_role("rowheader").count() >= 2
        assert await page.get_by_role("img").get_attribute("aria-labelledby") == "chart-t chart-d"
        names = [await one.get_attribute("aria-label") for one in await page.locator("article button").all()]
        assert len(set(names)) == len(names) == 4
        ids = await page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
        assert len(set(ids)) == len(ids)
        sizes = await page.locator("main button:visible").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 44  # a finger's


async def test_one_signs_in_polls_now_and_sends_a_dead_letter_again(stage: Stage, address: str) -> None:
    async with browsing(lang="en") as page:
        complaints = await watched(page)
        await page.goto(f"{address}/")
        await page.get_by_role("link", name="Sign in").click()
        await page.get_by_label("Token").fill("not the token at all")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("The token is wrong.").wait_for()
        complaints.clear()  # the browser tells of the 401

        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("button", name="Poll now").click()
        await page.get_by_text("The shop is being polled.").wait_for()
        await page.get_by_role("button", name="Send again: dead letter 57").click()
        await page.get_by_text("Dead letter 57 is in the outbox again").wait_for()
        assert await page.get_by_text("order 1038").count() == 0

        drop = page.get_by_role("button", name="Drop for good: dead letter 41")
        assert await drop.count() == 0  # not by a slip of the finger
        await page.locator("summary").click()
        await drop.click()
        await page.get_by_text("Dead letter 41 was dropped.").wait_for()
        assert stage.done == ["poll", "replay 57", "drop 41"]

        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="Sign in").wait_for()
        assert complaints == []


async def test_the_language_is_changed_by_hand_and_stays(address: str) -> None:
    async with browsing(lang="ru") as page:
        await page.goto(f"{address}/")
        await page.get_by_role("link", name="In English").click()
        await page.get_by_text("At a glance").wait_for()
        assert "lang=en" in str(await page.locator("meta[http-equiv]").get_attribute("content"))


async def test_it_looks_again_by_itself(stage: Stage, address: str) -> None:
    async with browsing(lang="en") as page:
        stage.status = WELL
        await page.goto(f"{address}/")
        assert SHOP in await page.inner_text("h1")
        stage.status = TROUBLED
        await page.get_by_text("Something does not work").wait_for()


# --- Several shops ---


@pytest.fixture
async def fleet_address() -> AsyncIterator[str]:
    async with fleet_staged(FleetStage()) as address:
        yield address


@SCENES
@pytest.mark.parametrize("width", [390, 1200])
async def test_the_overview_fits_and_can_be_read(
    fleet_address: str, scheme: Scheme, lang: str, width: int
) -> None:
    async with browsing(scheme=scheme, lang=lang, width=width) as page:
        complaints = await watched(page)
        await page.goto(f"{fleet_address}/?still=1")
        size = await page.locator("html").evaluate("root => [root.scrollWidth, root.clientWidth]")
        assert size[0] <= size[1] == width
        assert complaints == []
        looks = await page.locator("body *").evaluate_all(TEXTS_WITH_COLOURS)
        assert len(looks) > 50
        for look in looks:
            assert contrast(colour(look["text"]), colour(look["ground"])) >= LEAST_CONTRAST, look
        assert await page.get_by_role("columnheader").count() == 10
        assert await page.get_by_role("rowheader").count() == 7
        assert await page.get_by_role("cell").count() == 7 * 9
        for landmark in ("banner", "main", "contentinfo", "search"):
            assert await page.get_by_role(landmark).count() == 1, landmark


async def test_shops_are_searched_selected_and_polled_and_one_is_opened(fleet_address: str) -> None:
    async with browsing(lang="en", width=1200) as page:
        complaints = await watched(page)
        await page.goto(f"{fleet_address}/sign-in")
        await page.fill("#token", TOKEN)
        await page.locator("main button").click()
        complaints.clear()  # of the password form
        await page.get_by_role("searchbox").fill("e")
        await page.get_by_label("State", exact=True).select_option("needy")
        await page.get_by_label("Tag", exact=True).select_option("eu")
        await page.get_by_role("button", name="Show").click()
        await page.wait_for_url("**/?*state=needy*")
        assert await page.get_by_role("rowheader").count() == 2
        await page.get_by_role("checkbox", name="tea").check()
        await page.get_by_role("checkbox", name="cheese").check()
        await page.get_by_role("button", name="Poll now").click()
        await page.get_by_text("Shops that are being polled: 2.").wait_for()
        assert await page.get_by_role("rowheader").count() == 2  # the choice is kept
        await page.get_by_role("link", name="Tea & Co").click()
        await page.get_by_text("At a glance").wait_for()
        await page.get_by_role("button", name="Poll now").click()
        await page.get_by_text("The shop is being polled.").wait_for()
        await page.get_by_role("link", name="All shops").click()
        await page.get_by_text("3 of 7 shops need you").wait_for()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="Sign in").wait_for()
        assert complaints == []


async def signed_in(page: "Page", address: str) -> None:
    await page.goto(f"{address}/sign-in")
    await page.fill("#token", TOKEN)
    await page.locator("main button").click()
    await page.locator("article").first.wait_for()
    await page.goto(f"{address}/?still=1")


TEXTS_WITH_COLOURS = """all => all.filter(one =>
  [...one.childNodes].some(child => child.nodeType === 3 && child.data.trim())
  && one.getClientRects().length && !one.matches('.skip, style, title, desc, option'))
.map(one => {
  let behind = one;
  while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)' && behind.parentElement)
    behind = behind.parentElement;
  const style = getComputedStyle(one);
  return {
    what: one.tagName + ' ' + one.textContent.trim().slice(0, 40),
    text: one.namespaceURI.endsWith('svg') ? style.fill : style.color,
    ground: getComputedStyle(behind).backgroundColor,
  };
})"""


def colour(css: str) -> tuple[int, ...]:
    found = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", css)
    assert found, css
    return tuple(int(part) for part in found.groups())


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """By WCAG 2."""

    def light(shade: tuple[int, ...]) -> float:
        parts = [part / 255 for part in shade]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lights = sorted((light(one), light(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)
