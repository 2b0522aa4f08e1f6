"""A real browser, if the machine has one: Debian's Chromium, without JavaScript, the network or a sandbox."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.async_api import Page

CHROMIUM = Path("/usr/bin/chromium")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Scheme = Literal["light", "dark"]


@asynccontextmanager
async def browsing(
    *, width: int = 390, height: int = 844, scheme: Scheme = "light", lang: str = "ru", scale: float = 1
) -> AsyncIterator["Page"]:
    """A page of a browser that a person reads on such a screen."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - not where there is no browser

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            java_script_enabled=False,
            locale=lang,
            device_scale_factor=scale,
        )
        try:
            yield await context.new_page()
        finally:
            await browser.close()
