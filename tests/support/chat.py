"""Notifications as a phone shows them in a chat: for the picture in the README."""

from html import escape

from shop_poller.core.messages import Locale
from support.notifications import examples, rich_format

SHOWN = ("new", "failed", "partially refunded", "payment overdue", "service.unhealthy")
WORDS = {"ru": ("Магазин", "бот", "сегодня"), "en": ("My shop", "bot", "today")}
STYLE = """
body { margin: 0; background: #dfe8ef; color: #10181f; font: 16px/1.35 "DejaVu Sans", sans-serif; }
header { display: flex; gap: 12px; align-items: center; padding: 14px 16px; background: #fff; }
header i { width: 40px; height: 40px; border-radius: 50%; background: #2f7dd1; color: #fff; }
header i { font-style: normal; text-align: center; line-height: 40px; font-weight: bold; }
header b, header small { display: block; }
small { color: #5b6b7a; font-size: 13px; }
.day { margin: 14px auto; width: max-content; padding: 2px 12px; border-radius: 12px; background: #b9c9d6;
  font-size: 13px; }
.message { box-sizing: border-box; width: 330px; margin: 0 0 10px 12px; padding: 9px 12px; background: #fff;
  border-radius: 4px 14px 14px 14px; }
.message p { margin: 2px 0 0; white-space: pre-line; }
.message small { display: block; text-align: right; }
"""


def chat(locale: Locale) -> str:
    """A page that shows what the sink `apprise+tgram://` sends."""
    name, bot, today = WORDS[locale]
    messages = []
    for name_of_example, notification in examples(locale):
        if name_of_example in SHOWN:
            rich = rich_format(locale).message(notification.wire())
            link = f'<a href="#">{escape(rich.url_text)}</a>' if rich.url else ""
            lines = "<br>".join([*map(escape, rich.lines), *filter(None, [link])])
            messages.append(
                f'<div class="message"><b>{escape(rich.title)}</b><p>{lines}</p>'
                f"<small>{notification.created_at:%H:%M}</small></div>"
            )
    return (
        f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><header><i>{name[0]}</i>'
        f"<div><b>{name}</b><small>{bot}</small></div></header>"
        f'<div class="day">{today}</div>{"".join(messages)}'
    )
