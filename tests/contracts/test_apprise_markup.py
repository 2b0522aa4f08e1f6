"""What a buyer typed is shown as it was typed: text reaches each service as Apprise itself would send it."""

import importlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import pytest

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
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?format=markdown",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?format=markdown",
    "gchat://workspace/key/token",
    "mmost://mattermost.example/abcdefghijklmnopqrstuvwxyz",
    "matrixs://matrix.example/token?mode=slack",
    "ntfy://topic",
    f"wxteams://{'a' * 80}",
    "workflows://host.example/workflow-id/signature",
    "zulip://bot@organization/abcdefghijklmnopqrstuvwxyz012345/stream",
    "gotify://gotify.example/token",
    "gotify://gotify.example/token?format=markdown",
    "json://receiver.example/?format=html",
]


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
async def test_every_service_gets_what_apprise_itself_sends(
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
