"""`mute`, `unmute` and `mutes` with the real daemon; a mute survives its restart."""

import json
from collections.abc import Iterator

import pytest

from support.commands import wait_until
from support.receivers import reserved_port
from support.site import Site


@pytest.fixture
def name(site: Site) -> Iterator[str]:
    """The name of the sink, of a site whose daemon accepts actions."""
    with reserved_port() as number:
        site.settings |= {
            "SHOP_HTTP_LISTEN": f"127.0.0.1:{number}",
            "SHOP_ADMIN_TOKEN": "a-token-that-nobody-guesses",
            "SHOP_NOTIFY_URLS": f"{site.receiver.url}#crm",
            "SHOP_TIMEZONE": "Europe/Moscow",
        }
        yield "crm"


def waiting(site: Site, name: str) -> int:
    sinks = site.status()["sinks"]
    return int(sinks[name]["waiting"]) if name in sinks else 0


def test_a_muted_sink_gets_nothing_until_it_is_unmuted(site: Site, name: str) -> None:
    with site.daemon():
        site.polled()
        muted = site.run("mute", name, "--for", "2h")
        assert (muted.code, muted.stderr) == (0, "")
        assert muted.last.startswith("crm: muted until 20")
        assert muted.last.endswith("; its notifications wait in the outbox")
        site.shop.create_order("processing")
        wait_until(lambda: waiting(site, name) == 1, "the notification")
    with site.daemon():
        site.polled(2)
        assert site.receiver.posts == []
        (line,) = site.run("mutes").lines
        assert line.startswith("crm: muted until 20")
        assert line.endswith(", 1 waiting")
        assert json.loads(site.run("mutes", "--json").last)["sink"] == name
        assert "muted       crm: until " in site.run("status").stdout
        assert site.run("unmute", name).last == "crm: not muted"
        site.receiver.wait_for(1)
        assert site.run("mutes").last == "no sink is muted"


def test_mute_says_what_is_wrong(site: Site, name: str) -> None:
    def problem(*command: str, code: int = 2) -> str:
        done = site.run(*command)
        assert (done.code, done.stdout) == (code, "")
        (line,) = done.complaints
        return line.removeprefix("shop-poller: ")

    assert problem("mute", "chat") == "no sink is named 'chat' in the settings; known sinks: crm"
    assert problem("unmute", "chat") == "no sink is named 'chat' in the settings; known sinks: crm"
    assert problem("mute", name, "--for", "2") == ("--for: should be a number and s, min or h, e.g. 30min")
    assert problem("mute", name, "--for", "2h", "--until", "18:00") == "give --for or --until, not both"
    assert problem("mute", name, code=3).startswith("no daemon answers at 127.0.0.1:")
