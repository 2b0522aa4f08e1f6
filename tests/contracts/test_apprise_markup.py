"""What a buyer typed is shown as it was typed: text reaches each service as Apprise itself would send it."""

import importlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import pytest

from shop_poller.core.grouping import GroupFormat
from shop_poller.locales import texts
from shop_poller.sinks.apprise.literal import INVISIBLE
from shop_poller.sinks.registry import parse_sink
from support.deliveries import delivery

with warnings.catch_warnings():
    # Apprise imports modules that Python itself says are old; that is no fault of ours.
    warnings.simplefilter("ignore")
    apprise = importlib.import_module("apprise")
    apprise.Apprise.instantiate("json://loaded")

CASE = json.loads(
    Path(__file__).parents[1].joinpath("data/cases/telegram-markup/order.json").read_text("utf-8")
)
NAME = CASE[0]["billing"]["first_name"]
TITLE = "Packing <now> & then"
BOT = "tgram://123456789:AAabcdefghijklmnopqrstuvwxyz12345678/777"
NAMES = [
    NAME,
    "*bold* _it_ `code` ~no~",
    "[pay](https://evil.example)",
    "<script>alert(1)</script>",
    "</b></a>&lt;i&gt;",
    "# heading\n- list",
    "<!channel> <https://evil.example|pay>",
]
SERVICES = [
    BOT,
    f"{BOT}?format=html",
    f"{BOT}?format=text",
    f"{BOT}?format=markdown",
    f"{BOT}?format=markdown&mdv=2",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
    "matrixs://matrix.example/token?mode=slack",
    "ntfy://topic",
    "gotify://gotify.example/token",
]
"""Services whose escaping by Apprise is right; for the others see test_channels.py."""
DISCORD = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """What is posted by the library that Apprise's plugins use, instead of going anywhere."""
    posted: list[dict[str, Any]] = []

    def post(*about: Any, **what: Any) -> Any:
        body = what.get("data") or what.get("json")
        posted.append(json.loads(body) if isinstance(body, str | bytes) else dict(body or {}))
        answer = mock.Mock(status_code=200, text='{"ok": true, "result": {}}', headers={}, reason="OK")
        answer.content = (
            b"ok" if "hooks.slack.com" in f"{about[1:]} {what.get('url')}" else answer.text.encode()
        )
        answer.json.return_value = {"ok": True, "result": {}}
        return answer

    with mock.patch("requests.Session.request", post):
        yield posted


async def by_us(url: str, title: str, text: str) -> None:
    sink = parse_sink(f"apprise+{url}").open(signing_keys=(), connections=1)
    body = json.dumps({**json.loads(delivery().body), "title": title, "message": text})
    with anyio.fail_after(20):
        await sink.send(replace(delivery(), body=body))


def by_apprise(url: str, title: str, text: str) -> None:
    service = apprise.Apprise.instantiate(url, asset=apprise.AppriseAsset(app_id="shop-poller"))
    status_page = apprise.Apprise()
    status_page.add(service)
    assert status_page.notify(
        body=text, title=title, body_format=apprise.NotifyFormat.TEXT, notify_type="info"
    )


def without_times(posted: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(json.loads(json.dumps(one), object_pairs_hook=_timeless)) for one in posted]


def _timeless(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if name not in {"ts", "timestamp"}}


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("url", SERVICES)
async def test_a_service_gets_what_apprise_itself_sends(
    sent: list[dict[str, Any]], url: str, name: str
) -> None:
    text = f"Order #2 of {name}"
    await by_us(url, TITLE, text)
    ours = without_times(sent)
    sent.clear()
    by_apprise(url, TITLE, text)
    assert ours == without_times(sent)
    assert ours


@pytest.mark.anyio
async def test_a_tag_in_a_first_name_is_no_link_in_telegram(sent: list[dict[str, Any]]) -> None:
    await by_us(BOT, TITLE, f"Order #2 of {NAME}")
    (post,) = sent
    assert post["parse_mode"] == "HTML"
    assert "&lt;now&gt; &amp; then" in post["text"]
    assert "&lt;a href=" in post["text"]
    assert "<a " not in post["text"]


@pytest.mark.anyio
async def test_a_link_in_a_first_name_is_no_link_in_markdown_either(sent: list[dict[str, Any]]) -> None:
    for mode in ("markdown", "markdown&mdv=2"):
        sent.clear()
        await by_us(f"{BOT}?format={mode}", "Packing", "Order #2 of [pay](https://evil.example) *now*")
        assert "[pay](" not in sent[0]["text"].replace("\\[", "")
        assert "\\*now\\*" in sent[0]["text"]


@pytest.mark.anyio
@pytest.mark.parametrize("url", [BOT, f"{BOT}?format=text", DISCORD], ids=["html", "text", "discord"])
async def test_a_group_fits_into_one_message_and_counts_what_is_left_out(
    sent: list[dict[str, Any]], url: str
) -> None:
    """Discord takes 2,000 characters, Telegram 4,096."""
    wire = json.loads(delivery().body)
    rows = [
        replace(
            delivery(),
            seq=number,
            key=str(number),
            event_id=f"event {number}",
            body=json.dumps({**wire, "rich": {"title": f"№{number} <b> {'ы' * 110}"}}),
        )
        for number in range(1, 31)
    ]
    group = GroupFormat("ru", texts("ru")).compose(rows)
    sink = parse_sink(f"apprise+{url}").open(signing_keys=(), connections=1)
    with anyio.fail_after(20):
        await sink.send(group)
    (post,) = sent
    text = post.get("text") or post["content"]
    text = text.replace(INVISIBLE, "")
    shown = [line for line in re.split(r"\r?\n|<br ?/>", text) if line.startswith("№")]
    assert "30 новых заказов" in text
    assert text.rstrip("`").rstrip().endswith(f"и ещё {30 - len(shown)}")
    assert ("<b> ы" in text) is not url.startswith(BOT)
    assert 10 <= len(shown) <= 20
    assert len(text) <= (4096 if url.startswith(BOT) else 2000)
