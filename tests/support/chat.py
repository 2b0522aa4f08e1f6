"""Notifications as their readers see them in Telegram and in a mail program: for pictures in the documents.

The pages show what is really sent: the text of the request to the Bot API, and the parts of the mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from html import escape

from shop_poller.core.messages import Locale
from shop_poller.core.model import Delivery
from shop_poller.sinks.registry import parse_sink
from support.channels import CHANNELS, deliveries, recorded
from support.smtp_server import smtp_server

IN_README = ("new", "failed", "partially refunded", "payment overdue", "service.unhealthy")
IN_DOCS = ("new", "placed", "partially refunded", "failed", "group", "service.unhealthy")
TIMES = ("09:12", "09:47", "11:05", "11:31", "12:00", "14:20")
CHAT_STYLE = """
body { margin: 0; background: #dfe8ef; color: #10181f; font: 15px/1.35 "DejaVu Sans", sans-serif; }
header { display: flex; gap: 12px; align-items: center; padding: 10px 16px; background: #fff; }
header i { width: 40px; height: 40px; border-radius: 50%; background: #2f7dd1; color: #fff;
  font-style: normal; text-align: center; line-height: 40px; font-weight: bold; }
header b, header small { display: block; }
small { color: #5b6b7a; font-size: 12px; }
.day { margin: 10px auto; width: max-content; padding: 2px 12px; border-radius: 12px; background: #b9c9d6;
  font-size: 12px; }
.message { box-sizing: border-box; width: 350px; margin: 0 0 8px 10px; padding: 8px 12px 5px;
  background: #fff;  border-radius: 4px 14px 14px 14px; white-space: pre-line; }
.message a { color: #1d6fc0; text-decoration: none; }
.message small { display: block; text-align: right; }
main { padding-bottom: 6px; }
"""
MAIL_STYLE = """
body { margin: 0; background: #fff; color: #10181f; font: 14px/1.4 "DejaVu Sans", sans-serif; }
ul { margin: 0; padding: 0; list-style: none; background: #f3f6f9; border-bottom: 2px solid #cfd8e0; }
li { display: flex; gap: 12px; padding: 7px 16px; border-bottom: 1px solid #dde4ea; white-space: nowrap; }
li.open { background: #fff; font-weight: bold; }
li span { flex: 0 1 auto; overflow: hidden; text-overflow: ellipsis; }
li span + span { flex: 1 1 0; color: #5b6b7a; font-weight: normal; }
li time { color: #5b6b7a; font-weight: normal; }
article { padding: 14px 16px 18px; }
h1 { margin: 0 0 4px; font-size: 18px; }
p { margin: 0 0 14px; color: #5b6b7a; font-size: 12px; }
a { color: #1d6fc0; }
"""


@dataclass(frozen=True, slots=True)
class ChatWords:
    """What a program for messages says itself."""

    name: str
    bot: str
    today: str
    sender: str
    to: str


WORDS: dict[Locale, ChatWords] = {
    "ru": ChatWords("Пасека", "бот", "сегодня", "От", "Кому"),
    "en": ChatWords("Apiary", "bot", "today", "From", "To"),
}


def _chosen(locale: Locale, names: Sequence[str]) -> list[Delivery]:
    found = dict(deliveries(locale))
    return [found[name] for name in names]


async def _send(url: str, delivery: Delivery) -> None:
    await parse_sink(f"apprise+{url}").open(signing_keys=(), connections=1).send(delivery)


async def chat(locale: Locale, names: Sequence[str]) -> str:
    """A page that shows what Telegram is sent. It takes a part of HTML, which a browser shows as it does."""
    messages = []
    for at, delivery in zip(TIMES, _chosen(locale, names), strict=False):
        with recorded() as posted:
            await _send(CHANNELS["telegram"], delivery)
        (post,) = posted
        text = post["text"].replace("\r\n", "\n")
        messages.append(f'<div class="message">{text}<small>{at}</small></div>')
    words = WORDS[locale]
    return (
        f'<!doctype html><meta charset="utf-8"><style>{CHAT_STYLE}</style><main><header>'
        f"<i>{words.name[0]}</i><div><b>{words.name}</b><small>{words.bot}</small></div></header>"
        f'<div class="day">{words.today}</div>{"".join(messages)}</main>'
    )


async def mailbox(locale: Locale, names: Sequence[str]) -> str:
    """A page that shows mails in a list, and the first one open."""
    async with smtp_server() as server:
        url = f"mailto://shop:pass@127.0.0.1:{server.port}?from=shop@shop.example&to=boss@shop.example"
        for delivery in _chosen(locale, names):
            await _send(url, delivery)
    mails = [mail.message for mail in server.mails]
    rows = [
        f"<li{' class=open' if mail is mails[0] else ''}><span>{escape(mail['Subject'])}</span>"
        f"<span>{escape(_part(mail, 'plain').splitlines()[0])}</span><time>{at}</time></li>"
        for at, mail in zip(TIMES, mails, strict=False)
    ]
    first, words = mails[0], WORDS[locale]
    about = f"{words.sender}: {escape(first['From'])} · {words.to}: {escape(first['To'])}"
    return (
        f'<!doctype html><meta charset="utf-8"><style>{MAIL_STYLE}</style><main><ul>{"".join(rows)}</ul>'
        f"<article><h1>{escape(first['Subject'])}</h1><p>{about}</p>{_part(first, 'html')}</article></main>"
    )


def _part(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())
