"""Takes the pictures in docs/images again: `make screenshots`. Needs /usr/bin/chromium."""

import asyncio
import sys
from pathlib import Path

from shop_poller.core.messages import Locale
from shop_poller.web.snapshot import StatusSnapshot
from support.apprise_services import load_services
from support.browser import CHROMIUM, Scheme, browsing
from support.chat import IN_DOCS, IN_README, chat, mailbox
from support.fleet_scene import FleetStage, fleet_staged
from support.scene import TOKEN, TROUBLED, WELL, Stage, staged

IMAGES = Path(__file__).parents[1] / "docs/images"


async def messages(locale: Locale) -> None:
    """Take the pictures of messages."""
    load_services()
    for name, width, scale, content in (
        ("messages", 370, 1.3, await chat(locale, IN_README)),
        ("telegram", 370, 1.05, await chat(locale, IN_DOCS)),
        ("mail", 760, 1.2, await mailbox(locale, IN_DOCS)),
    ):
        async with browsing(width=width, scale=scale, lang=locale) as page:
            await page.set_content(content)
            await page.locator("main").screenshot(path=IMAGES / f"{name}-{locale}.png")


async def overview() -> None:
    """Take the picture of the overview of several shops."""
    async with (
        fleet_staged(FleetStage()) as address,
        browsing(width=1200, height=620, lang="en") as page,
    ):
        await page.goto(f"{address}/?lang=en&still=1")
        await page.screenshot(path=IMAGES / "fleet-desktop.png")


async def main() -> None:
    """Take all pictures, or only those of messages: `tests/screenshots.py messages`."""
    locales: list[Locale] = ["en", "ru"]
    for locale in locales:
        await messages(locale)
    if sys.argv[1:] == ["messages"]:
        return
    scenes: list[tuple[Scheme, StatusSnapshot]] = [("light", WELL), ("dark", TROUBLED)]
    for lang in locales:
        for scheme, snapshot in scenes:
            async with (
                staged(Stage(snapshot)) as address,
                browsing(scheme=scheme, lang=lang, scale=1.5) as page,
            ):
                if snapshot is TROUBLED:
                    await page.goto(f"{address}/sign-in?lang={lang}")
                    await page.fill("#token", TOKEN)
                    await page.click("button")
                await page.goto(f"{address}/?lang={lang}&still=1")
                await page.screenshot(path=IMAGES / f"status-phone-{scheme}-{lang}.png")
    await overview()
    async with (
        staged(Stage(TROUBLED)) as address,
        browsing(width=1000, height=760, lang="en") as page,
    ):
        await page.goto(f"{address}/?lang=en&still=1")
        await page.screenshot(path=IMAGES / "status-desktop.png")


if __name__ == "__main__":
    if not CHROMIUM.exists():
        sys.exit(f"there is no {CHROMIUM}; on Debian: apt install chromium")
    IMAGES.mkdir(exist_ok=True)
    asyncio.run(main())
