"""Addresses of chat services are known, named without their secret, and Apprise's form of them is told."""

import importlib
import re
import warnings

import pytest

from shop_poller.core.chat_hooks import HOOKS, advice, recognise
from shop_poller.sinks.apprise.config import PREFIX
from shop_poller.sinks.http.config import HttpConfig

SECRET = "s3same"
CERTAIN = [
    ("https://hooks.slack.com/services/T000/B000/s3same", "Slack", "slack://"),
    ("https://hooks.slack-gov.com/services/T000/B000/s3same", "Slack", "slack://"),
    ("https://hooks.slack.com/workflows/T000/A000/1/s3same", "Slack", "slack://"),
    ("https://HOOKS.slack.com:443/services/T000/B000/s3same", "Slack", "slack://"),
    ("https://hooks.slack.com./services/T000/B000/s3same", "Slack", "slack://"),
    ("https://discord.com/api/webhooks/1/s3same", "Discord", "discord://"),
    ("https://discord.com/api/v10/webhooks/1/s3same/slack", "Discord", "discord://"),
    ("https://discordapp.com/api/webhooks/1/s3same", "Discord", "discord://"),
    ("https://canary.discord.com/api/webhooks/1/s3same?wait=true", "Discord", "discord://"),
    (
        "https://acme.webhook.office.com/webhookb2/s3same@x/IncomingWebhook/y/z",
        "Microsoft Teams",
        "workflows://",
    ),
    ("https://outlook.office.com/webhook/s3same", "Microsoft Teams", "workflows://"),
    (
        "https://prod-1.westeurope.logic.azure.com:443/workflows/s3same/triggers/manual",
        "Microsoft Teams",
        "workflows://",
    ),
    ("https://chat.googleapis.com/v1/spaces/AAA/messages?key=k&token=s3same", "Google Chat", "gchat://"),
    ("https://api.telegram.org/bot123:s3same/sendMessage?chat_id=7", "Telegram", "tgram://"),
    ("https://webexapis.com/v1/webhooks/incoming/s3same", "Webex", "wxteams://"),
    ("https://open.feishu.cn/open-apis/bot/v2/hook/s3same", "Feishu", "feishu://"),
    ("https://oapi.dingtalk.com/robot/send?access_token=s3same", "DingTalk", "dingtalk://"),
    ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=s3same", "WeCom", "wecombot://"),
    ("https://api.pushover.net/1/messages.json", "Pushover", "pover://"),
    ("https://api.flock.com/hooks/sendMessage/s3same", "Flock", "flock://"),
]
PERHAPS = [
    ("https://chat.shop.example/hooks/abcdefghijklmnopqrstuvwxyz", "Mattermost", "mmosts://"),
    ("https://shop.example/mattermost/hooks/abcdefghijklmnopqrstuvwxyz", "Mattermost", "mmosts://"),
    ("https://rocket.example/hooks/64f0aaaaaaaaaaaaaaaaaaaa/" + "a1" * 24, "Rocket.Chat", "rockets://"),
    ("https://matrix.example/_matrix/client/v3/rooms/x/send/m.room.message", "Matrix", "matrixs://"),
    ("https://gotify.example/message?token=s3same", "Gotify", "gotifys://"),
    ("https://ntfy.sh/my-topic", "ntfy", "ntfys://"),
    ("https://maker.ifttt.com/trigger/order/with/key/s3same", "IFTTT", "ifttt://"),
]
OTHERS = [
    "https://crm.example/api/v1/notifications/webhook",
    "https://crm.example/hooks/orders",
    "https://crm.example/message",
    "https://discord.com/blog",
    "https://discord.com.evil.example/api/webhooks/1/2",
    "https://hooks.slack.com.example/services/T/B/X",
    "https://relay.example/hooks.slack.com/services/T/B/X",
    "https://hooks.zapier.com/hooks/catch/1/s3same",
    "https://hook.eu1.make.com/s3same",
    "https://n8n.example/webhook/6a0c6c1e-0000-5000-8000-000000000317",
    "https://script.google.com/macros/s/AKfycb/exec",
    "https://maker.ifttt.com/trigger/order/json/with/key/s3same",
    "http://127.0.0.1:8080/",
]


@pytest.mark.parametrize(("url", "service", "form"), CERTAIN)
def test_a_hook_is_known_and_its_name_has_no_secret(url: str, service: str, form: str) -> None:
    address = HttpConfig.parse(url)
    hook = address.chat_hook
    assert hook is not None
    assert hook.is_certain
    assert hook.service.startswith(service)
    assert f"apprise+{form}" in advice(hook)
    assert SECRET not in address.name + advice(hook) + repr(address)
    assert not address.shows_secret
    assert HttpConfig.parse(url).name == address.name
    assert HttpConfig.parse(f"{url}#crm").name == "crm"


def test_two_hooks_of_one_service_have_two_names() -> None:
    names = {HttpConfig.parse(f"https://discord.com/api/webhooks/{n}/x").name for n in range(5)}
    assert len(names) == 5


@pytest.mark.parametrize(("url", "service", "form"), PERHAPS)
def test_what_only_looks_like_one_keeps_its_name(url: str, service: str, form: str) -> None:
    address = HttpConfig.parse(url)
    hook = address.chat_hook
    assert hook is not None
    assert not hook.is_certain
    assert hook.service == service
    assert f"looks like an address of {service}" in advice(hook)
    assert f"apprise+{form}" in advice(hook)
    assert address.name == url.partition("?")[0], "what waits for it is found under its name"


@pytest.mark.parametrize("url", OTHERS)
def test_others_are_left_alone(url: str) -> None:
    assert recognise(url) is None
    assert HttpConfig.parse(url).chat_hook is None


def test_apprise_knows_every_form_that_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Apprise imports modules that Python itself says are old
        known = importlib.import_module("apprise").Apprise().details()["schemas"]
    schemes = {
        scheme for one in known for key in ("protocols", "secure_protocols") for scheme in one[key] or ()
    }
    for hook in HOOKS:
        found = re.match(rf"{re.escape(PREFIX)}([a-z0-9]+)://", hook.apprise)
        assert found
        assert found[1] in schemes, hook
