"""The frame of every page: its head, its style, its icon."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from shop_poller.web.markup import Markup, fill
from shop_poller.web.view_context import ViewContext

REFRESH_S = 10
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='%23{colour}'/%3E%3C/svg%3E"
)
LOOKS: Mapping[str, tuple[str, str]] = {
    "good": ("✓", "1a8a4d"),
    "some": ("!", "c77700"),
    "bad": ("✕", "c62a20"),
}
"""For each verdict: its sign, and the colour of the icon."""

DOCUMENT = """<!doctype html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="{icon}">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">{skip}</a>
{body}
</body>
</html>
"""


def document(
    view: ViewContext, body: Markup, *, title: str, verdict: str = "some", refresh: bool = False
) -> str:
    """Return a whole page with this body."""
    again = fill('<meta http-equiv="refresh" content="{s};url={url}">\n', s=REFRESH_S, url=view.place())
    return fill(
        DOCUMENT,
        lang=view.locale,
        refresh=again if refresh else Markup(),
        title=title,
        icon=ICON.format(colour=LOOKS[verdict][1]),
        style=Markup(STYLE),
        skip=view.say("skip"),
        body=body,
    )
