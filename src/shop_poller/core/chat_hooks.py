"""Addresses of chat services, whose webhooks accept only their own JSON, not our notification.

Such an address must be given to Apprise, which formats messages for each service.
"""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from shop_poller.core.translatable import Text


@dataclass(frozen=True, slots=True)
class ChatHook:
    """A kind of address.

    Attributes:
        service: its name, for people.
        host: matches the whole host; None for services that users host themselves.
        path: matches the beginning of the path.
        apprise: what to write in SHOP_NOTIFY_URLS instead; replace the parts in capitals.
    """

    service: str
    host: re.Pattern[str] | None
    path: re.Pattern[str]
    apprise: str

    @property
    def is_certain(self) -> bool:
        """Whether the address is surely of this service, and the service would reject every notification."""
        return self.host is not None and self.service not in TAKE_ANYTHING


def _hook(service: str, host: str, path: str, apprise: str) -> ChatHook:
    return ChatHook(service, re.compile(host) if host else None, re.compile(path), apprise)


TAKE_ANYTHING = frozenset({"ntfy", "IFTTT"})
"""They respond 200 to any JSON. They show it as text, or show nothing."""

HOOKS = (
    _hook("Slack", r"hooks\.slack(-gov)?\.com", r"/services/", "apprise+slack://T…/B…/TOKEN"),
    _hook("Slack", r"hooks\.slack(-gov)?\.com", r"/(workflows|triggers)/", "apprise+slack://T…/B…/TOKEN"),
    _hook(
        "Discord",
        r"((ptb|canary)\.)?discord(app)?\.com",
        r"/api/(v[0-9]+/)?webhooks/",
        "apprise+discord://WEBHOOK_ID/WEBHOOK_TOKEN",
    ),
    _hook(
        "Microsoft Teams",
        r"(.+\.webhook\.office\.com|outlook\.office(365)?\.com)",
        r"/webhook",
        Text("apprise+workflows://HOST/WORKFLOW_ID/SIGNATURE (Teams' Workflows; the old " "connectors end)"),
    ),
    _hook(
        "Microsoft Teams (Workflows)",
        r".+\.(logic\.azure\.com|api\.powerplatform\.com)",
        r"/(workflows|powerautomate)/",
        "apprise+workflows://HOST/WORKFLOW_ID/SIGNATURE",
    ),
    _hook(
        "Google Chat",
        r"chat\.googleapis\.com",
        r"/v1/spaces/",
        "apprise+gchat://WORKSPACE/KEY/TOKEN",
    ),
    _hook("Telegram", r"api\.telegram\.org", r"/(bot|file)", "apprise+tgram://BOTTOKEN/CHATID"),
    _hook("Webex", r"webexapis\.com|api\.ciscospark\.com", r"/v1/", "apprise+wxteams://TOKEN"),
    _hook(
        "Lark", r"open\.larksuite\.com", r"/open-apis/bot/", "apprise+lark://TOKEN"
    ),
    _hook("Feishu", r"open\.feishu\.cn", r"/open-apis/bot/", "apprise+feishu://TOKEN"),
    _hook("DingTalk", r"oapi\.dingtalk\.com", r"/robot/", "apprise+dingtalk://TOKEN"),
    _hook("WeCom", r"qyapi\.weixin\.qq\.com", r"/cgi-bin/webhook/", "apprise+wecombot://BOTKEY"),
    _hook("Pushover", r"api\.pushover\.net", r"/1/", "apprise+pover://USER_KEY@TOKEN"),
    _hook("Pushbullet", r"api\.pushbullet\.com", r"/v2/", "apprise+pbul://ACCESS_TOKEN"),
    _hook("PagerDuty", r"events(\.eu)?\.pagerduty\.com", r"/", "apprise+pagerduty://INTEGRATION_KEY@API_KEY"),
    _hook("Opsgenie", r"api(\.eu)?\.opsgenie\.com", r"/v[12]/", "apprise+opsgenie://API_KEY"),
    _hook("Flock", r"api\.flock\.com", r"/hooks/", "apprise+flock://TOKEN"),
    _hook("Guilded", r"media\.guilded\.gg", r"/webhooks/", "apprise+guilded://WEBHOOK_ID/WEBHOOK_TOKEN"),
    _hook("Bark", r"api\.day\.app", r"/", "apprise+barks://api.day.app/DEVICE_KEY"),
    _hook("ntfy", r"ntfy\.sh", r"/[^/]+", "apprise+ntfys://TOPIC"),
    _hook("IFTTT", r"maker\.ifttt\.com", r"/trigger/(?!.*/json/)", "apprise+ifttt://WEBHOOK_ID@EVENT"),
    # Users host these themselves, so only the path identifies them.
    _hook("Mattermost", "", r"(/[^/]+)*/hooks/[a-z0-9]{26}/?$", "apprise+mmosts://HOST/TOKEN"),
    _hook(
        "Rocket.Chat", "", r"(/[^/]+)*/hooks/[A-Za-z0-9]{17,24}/[A-Za-z0-9]{32,}/?$",
        "apprise+rockets://WEBHOOK_TOKEN@HOST/ROOM",
    ),
    _hook("Matrix", "", r"/_matrix/client/", "apprise+matrixs://USER:PASSWORD@HOST/#ROOM"),
    _hook("Zulip", "", r"/api/v1/(messages|external/slack)", "apprise+zulip://BOTNAME@ORGANIZATION/TOKEN"),
    _hook("Gotify", "", r"(/[^/]+)*/message/?$", "apprise+gotifys://HOST/TOKEN"),
)  # fmt: skip


def recognise(url: str) -> ChatHook | None:
    """Return the chat service that an http(s) address belongs to; None if it is not a known one.

    Args:
        url: a valid address.
    """
    parts = urlsplit(url)
    host, path = (parts.hostname or "").rstrip("."), parts.path or "/"
    for hook in HOOKS:
        if hook.host is not None and hook.host.fullmatch(host) and hook.path.match(path):
            return hook
    own = (hook for hook in HOOKS if hook.host is None and hook.path.match(path))
    return next((hook for hook in own if hook.service != "Gotify" or "token=" in parts.query), None)


def advice(hook: ChatHook) -> str:
    """Return one line about what to do with such an address; it contains no part of the address."""
    if hook.is_certain:
        return Text(
            "is a webhook of {service}, which accepts only its own JSON; write {apprise} instead "
            "(docs/notifications.md)",
            service=hook.service,
            apprise=hook.apprise,
        )
    return Text(
        "looks like an address of {service}, which accepts only its own JSON; write "
        "{apprise} instead (docs/notifications.md)",
        service=hook.service,
        apprise=hook.apprise,
    )


def hidden_name(scheme: str, host: str, path: str) -> str:
    """Return a name for such an address without a #name: stable, unique per hook, and without its secret."""
    return f"{scheme}://{host}/{hashlib.sha256(path.encode()).hexdigest()[:12]}"
