"""Apprise URLs as sinks: name, filter, secrets."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from apprise.plugins import N_MGR

from shop_poller.core.filters import Filter
from shop_poller.sinks.apprise.config import LIBRARY, AppriseConfig
from shop_poller.sinks.apprise.schemes import SCHEMES
from shop_poller.sinks.registry import parse_sink
from support.apprise_services import load_services

load_services()

TOKEN = "123456:AAbbccdd"


def test_our_parameters_and_name_are_taken_out_and_the_rest_is_apprises() -> None:
    sink = AppriseConfig.parse(
        f"apprise+tgram://{TOKEN}/777?silent=yes&events=new&levels=error&event%73=1#boss"
    )
    assert sink.name == "boss"
    assert sink.url == f"tgram://{TOKEN}/777?silent=yes&event%73=1"
    assert sink.options.filter == Filter(events=("new",), levels=("error",))


def test_a_channel_of_slack_is_no_name() -> None:
    sink = AppriseConfig.parse("apprise+slack://T1/B2/C3/#general?events=new#team")
    assert (sink.name, sink.url) == ("team", "slack://T1/B2/C3/%23general")
    assert AppriseConfig.parse("apprise+slack://T1/B2/C3/#general").name.startswith("apprise+slack:")


def test_without_a_name_it_is_stable_and_another_for_each_chat_and_shows_nothing() -> None:
    names = [AppriseConfig.parse(f"apprise+tgram://{TOKEN}/{chat}").name for chat in ("777", "777", "778")]
    assert names[0] == names[1] != names[2]
    assert names[0] == "apprise+tgram:3f5d62abff0a"
    # The filter is no part of the name, nor is a password, which may be changed, or guessed from a hash.
    assert AppriseConfig.parse(f"apprise+tgram://{TOKEN}/777?events=new").name == names[0]
    mails = [
        AppriseConfig.parse(f"apprise+mailto://me:{word}@x.example?to=a").name for word in ("one", "two")
    ]
    assert mails[0] == mails[1] != AppriseConfig.parse("apprise+mailto://me:one@x.example?to=b").name


def test_all_that_may_be_a_secret_is_one() -> None:
    sink = AppriseConfig.parse(
        "apprise+mailto://anna:p%40s@x.example/path-token?to=boss%40x.example&format=html#mail"
    )
    assert {"p%40s", "p@s", "path-token", "boss@x.example"} <= set(sink.secrets)
    assert "html" not in sink.secrets, "short words would be masked everywhere"
    assert "p%40s" not in repr(sink)


@pytest.mark.parametrize(
    "address", ["apprise+", "apprise+tgram:", "apprise+tgram://", "apprise+://sesame", "apprise+a b://x"]
)
def test_what_is_no_apprise_url_is_said_without_it(address: str) -> None:
    with pytest.raises(ValueError, match=r"after apprise\+ comes an Apprise URL") as caught:
        AppriseConfig.parse(address)
    assert "sesame" not in str(caught.value)


def test_a_name_is_made_of_plain_characters() -> None:
    with pytest.raises(ValueError, match="64 letters"):
        AppriseConfig.parse("apprise+json://x/y#a/b")


@pytest.mark.parametrize(
    "url",
    [
        f"tgram://{TOKEN}/777",
        f"TGRAM://{TOKEN}/777?events=new#boss",
        "mailto://me:pass@mail.example?to=a@x.example",
        "slack://T1/B2/C3/#general#team",
        "discord://123/abc",
        "46elks://user:password@sender/target",
    ],
)
def test_the_form_of_apprise_itself_means_the_same(url: str) -> None:
    assert parse_sink(url) == parse_sink(f"apprise+{url}")
    assert parse_sink(url).secrets == parse_sink(f"apprise+{url}").secrets


@pytest.mark.parametrize("url", ["ftp://h.example", "htttps://h.example", "sesame://x", "tgrm://1:a/7"])
def test_a_scheme_that_nobody_has_is_no_sink(url: str) -> None:
    with pytest.raises(ValueError, match="is not a kind of sink") as caught:
        parse_sink(url)
    assert "h.example" not in str(caught.value)


def test_ours_come_first() -> None:
    kinds = [type(parse_sink(url)) for url in ("https://h/x", "redis://h/0?channel=c", "console:")]
    assert AppriseConfig not in kinds


def test_the_schemes_and_the_extra_are_those_of_apprise() -> None:
    known: Callable[[], list[str]] = N_MGR.schemas
    assert {*known()} == SCHEMES
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["optional-dependencies"]["apprise"] == [LIBRARY]
