"""The overview of several shops as HTML. A thousand rows must stay small: optional tags are left out."""

import html
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from unicodedata import bidirectional

from shop_poller.core.breaker import BreakerState
from shop_poller.core.messages import CAUSES, Locale
from shop_poller.core.model import iso
from shop_poller.core.plain_text import plain
from shop_poller.locales import page_texts
from shop_poller.web.fleet_rows import (
    MOST_ROWS,
    MOST_SELECTABLE,
    STATES,
    FleetQuery,
    JudgedRow,
    ShopVerdict,
    count_of,
    tags_of,
)
from shop_poller.web.frame import REFRESH_S, VERDICTS, document
from shop_poller.web.markup import Markup, fill, joined
from shop_poller.web.page import header, verdict_section
from shop_poller.web.tables import MUTE_S
from shop_poller.web.view_context import ViewContext

if TYPE_CHECKING:
    from shop_poller.web.troubles import Trouble

CLIPPED = 60
"""Characters shown of a name or of a state."""
UNKNOWN = "?"
FROM_THE_RIGHT = {"R", "AL", "AN"}
STYLES = {
    ShopVerdict.BAD: " class=is-bad",
    ShopVerdict.SOME: " class=is-some",
    ShopVerdict.STARTING: " class=soft",
    ShopVerdict.OFF: " class=soft",
    ShopVerdict.GOOD: "",
}
COLUMNS = (
    "shop",
    "state",
    "since",
    "last poll short",
    "orders today",
    "delivered today",
    "waiting",
    "dead letters short",
    "circuit",
    "replica",
)


def most_rows(view: ViewContext) -> int:
    """Return how many rows a page has at most."""
    return MOST_SELECTABLE if view.signed_in else MOST_ROWS


def shop_row(view: ViewContext, one: JudgedRow) -> str:
    """Return the row of a shop.

    The times are those of a clock, not "2 min ago", so the row stays true until it is read again. An id has
    no character that would need quotes; see config.shops.NAME.
    """
    row, snapshot = one.row, one.row.snapshot
    lang = f"?lang={view.locale}" if view.locale_chosen else ""
    box = f"<input type=checkbox name=shop value={row.shop} aria-label={row.shop}>" if view.signed_in else ""
    ident = "" if row.shop in row.name else f"<i>{row.shop}</i>"
    tags = "".join(f"<i>{_text(tag)}</i>" for tag in row.tags)
    last_poll_at = snapshot.state.last_poll_at if snapshot is not None and snapshot.state else None
    waiting = dead = None
    if snapshot is not None and not snapshot.trouble:
        waiting = dead = 0
        for sink in snapshot.sinks:
            waiting += sink.stored.waiting
            dead += sink.stored.dead
    return (
        f"<tr><th>{box}<a href=shops/{row.shop}/{lang}>{_text(row.name)}</a>{ident}{tags}"
        f"<td{STYLES[one.verdict]}>{_state(view, one)}<td>{_clock(one, one.since)}"
        f"<td>{_clock(one, last_poll_at)}<td>{_number(view, row.orders)}<td>{_number(view, row.delivered)}"
        f"<td>{_number(view, waiting)}<td>{_number(view, dead)}<td>{_circuit(view, one)}"
        f"<td>{_text(row.replica)}"
    )


def fleet_page(
    view: ViewContext,
    query: FleetQuery,
    *,
    version: str,
    every: Sequence[JudgedRow],
    chosen: Sequence[JudgedRow],
    rows: str,
    now: datetime,
) -> str:
    """Return the whole page.

    Args:
        view: the reader.
        query: what the reader asked for.
        version: of this program.
        every: all shops that this reader may see.
        chosen: those that the reader asked for.
        rows: those of this page, as `shop_row` wrote them.
        now: the time of the data.
    """
    needy = count_of(every, {ShopVerdict.BAD, ShopVerdict.SOME})
    unsure = count_of(every, {ShopVerdict.STARTING})
    verdict = "bad" if count_of(every, {ShopVerdict.BAD}) else "some" if needy or unsure else "good"
    text = "shops unsure" if unsure else "shops well"
    if needy:
        text = "shops need one" if needy == 1 else "shops need"
    heading = view.say(
        text, needy=view.number(needy), unsure=view.number(unsure), all=view.number(len(every))
    )
    is_still = view.no_refresh or view.signed_in  # a refresh would lose what was selected
    body = fill(
        '{header}<main id="content">{notice}{verdict}<section class="fleet" aria-labelledby="shops">'
        '<h2 id="shops">{title}</h2>{filters}{table}{pages}</section></main>{footer}',
        header=header(view, view.say("fleet"), version),
        notice=fill('<section class="notice" role="status">{text}</section>', text=view.notice)
        if view.notice
        else Markup(),
        verdict=verdict_section(verdict, heading, _counts(view, every)),
        title=view.say("shops"),
        filters=_filters(view, query, every),
        table=_table(view, rows, len(chosen)),
        pages=_pages(view, query, len(chosen)),
        footer=_footer(view, now, is_still=is_still),
    )
    title = f"{VERDICTS[verdict][0]} {heading}"
    return document(view, body, title=title, verdict=verdict, refresh=not is_still)


def _counts(view: ViewContext, every: Sequence[JudgedRow]) -> Markup:
    """Return how many shops are in each state, as links to them."""
    found = [(verdict, count_of(every, {verdict})) for verdict in ShopVerdict]
    links = [
        fill(
            '<li><a href="{url}">{text}: {count}</a></li>',
            url=view.with_query(FleetQuery(state=verdict).parameters).page_url(),
            text=view.say(f"shops {verdict}"),
            count=view.number(count),
        )
        for verdict, count in found
        if count
    ]
    return fill('<ul class="counts">{links}</ul>', links=joined(links))


def _filters(view: ViewContext, query: FleetQuery, every: Sequence[JudgedRow]) -> Markup:
    states = [("", view.say("every state")), *((state, view.say(f"shops {state}")) for state in STATES)]
    tags = [("", view.say("every tag")), *((tag, tag) for tag in tags_of(every))]
    kept: list[tuple[str, str]] = [("lang", view.locale)] if view.locale_chosen else []
    kept += [("still", "1")] if view.no_refresh else []
    return fill(
        '<form class="filters" method="get" action="./" role="search">{kept}'
        '<input type="search" name="q" value="{text}" maxlength="100" aria-label="{search}"'
        ' placeholder="{search}">{states}{tags}<button>{show}</button>{all}</form>',
        kept=joined(
            fill('<input type="hidden" name="{name}" value="{value}">', name=n, value=v) for n, v in kept
        ),
        text=query.text,
        search=view.say("search shops"),
        states=_choice(view, "state", states, query.state),
        tags=_choice(view, "tag", tags, query.tag) if len(tags) > 1 else Markup(),
        show=view.say("show"),
        all=fill('<a href="{url}">{text}</a>', url=view.with_query("").page_url(), text=view.say("all shops"))
        if query.parameters
        else Markup(),
    )


def _choice(view: ViewContext, name: str, options: Sequence[tuple[str, str]], chosen: str) -> Markup:
    return fill(
        '<select name="{name}" aria-label="{label}">{options}</select>',
        name=name,
        label=view.say("tag" if name == "tag" else "state"),
        options=joined(
            fill(
                '<option value="{value}"{selected}>{text}</option>',
                value=value,
                selected=Markup(" selected") if value == chosen else Markup(),
                text=text,
            )
            for value, text in options
        ),
    )


def _table(view: ViewContext, rows: str, count: int) -> Markup:
    if not count:
        return fill("<p>{text}</p>", text=view.say("no shops found"))
    head = joined(fill('<th scope="col">{text}', text=view.say(name)) for name in COLUMNS)
    table = fill(
        '<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table class="shops">'
        "<thead><tr>{head}<tbody>{rows}</table></div>"
        '<p class="soft">{note}</p>',
        label=view.say("shops"),
        head=head,
        rows=Markup(rows),
        note=view.say("times note"),
    )
    if not view.signed_in:
        return table
    buttons = joined(
        fill(
            '<button formaction="{action}"{kind}>{text}</button>',
            action=view.action_url(name),
            kind=Markup(' class="main"') if name == "poll" else Markup(),
            text=view.say(text),
        )
        for name, text in (("poll", "poll now"), ("mute", "mute"), ("unmute", "unmute"))
    )
    return fill(
        '<form method="post" action="{poll}"><div class="actions"><span>{selected}</span>'
        '<input type="hidden" name="seconds" value="{seconds}">{buttons}</div>{table}</form>',
        poll=view.action_url("poll"),
        selected=view.say("selected"),
        seconds=MUTE_S,
        buttons=buttons,
        table=table,
    )


def _pages(view: ViewContext, query: FleetQuery, count: int) -> Markup:
    """Return links to the other pages, if there are any."""
    last = (count - 1) // most_rows(view) + 1
    if last < 2:
        return Markup()
    links = [
        fill(
            '<a href="{url}"{current}>{page}</a>',
            url=view.with_query(FleetQuery(query.text, query.state, query.tag, page).parameters).page_url(),
            current=Markup(' aria-current="page"') if page == query.page else Markup(),
            page=page,
        )
        for page in range(1, last + 1)
    ]
    return fill(
        '<nav class="pages" aria-label="{label}">{links}</nav>', label=view.say("pages"), links=joined(links)
    )


def _footer(view: ViewContext, now: datetime, *, is_still: bool) -> Markup:
    at = fill('<time datetime="{iso}">{text}</time>', iso=iso(now), text=f"{now:%H:%M:%S} UTC")
    text = page_texts(view.locale)["read at, no refresh" if is_still else "read at"]
    if view.signed_in:
        link = fill('<a href="{url}">{text}</a>', url=view.page_url(), text=view.say("read again"))
    else:
        link = fill(
            '<a href="{url}">{text}</a>',
            url=view.page_url(no_refresh=not view.no_refresh),
            text=view.say("refresh" if view.no_refresh else "stop refreshing"),
        )
    return fill("<footer><p>{read} {link}</p></footer>", read=fill(text, at=at, seconds=REFRESH_S), link=link)


def _state(view: ViewContext, one: JudgedRow) -> str:
    if one.trouble is None:
        return _said(view.locale, f"row {'reading' if one.row.snapshot is None else one.verdict}")
    more = f" +{one.more}" if one.more else ""
    return _text(_words(view, one.trouble)) + more


def _words(view: ViewContext, trouble: "Trouble") -> str:
    """Return a problem in a few words; the page of the shop has the whole sentence."""
    kind = "clock" if trouble.about == "clock" else trouble.kind
    return view.say(
        f"row {kind}",
        name=trouble.name,
        count=view.number(trouble.count),
        cause=CAUSES[view.locale][trouble.cause] if trouble.cause else "",
    )


def _circuit(view: ViewContext, one: JudgedRow) -> str:
    """Return what is paused after failures, if this replica knows."""
    snapshot = one.row.snapshot
    if snapshot is None or not snapshot.leads:
        return UNKNOWN
    paused = [view.say("the shop")] if snapshot.is_circuit_open else []
    paused += [
        sink.name for sink in snapshot.sinks if sink.breaker in {BreakerState.OPEN, BreakerState.HALF_OPEN}
    ]
    if not paused:
        return _said(view.locale, "circuit closed")
    return _text(view.say("circuit open", names=", ".join(paused)))


def _clock(one: JudgedRow, at: datetime | None) -> str:
    """Return a clock time in the shop's time zone; with the day if that is not today."""
    if at is None or one.row.snapshot is None:
        return ""
    there, now = at.astimezone(one.row.zone), one.row.snapshot.now.astimezone(one.row.zone)
    if there.date() == now.date():
        return f"{there.hour:02}:{there.minute:02}:{there.second:02}"
    return f"{there.day:02}.{there.month:02}.{there.year} {there.hour:02}:{there.minute:02}"


def _number(view: ViewContext, count: int | None) -> str:
    if count is None:
        return UNKNOWN
    return str(count) if count < 1000 else view.number(count)


@lru_cache
def _said(locale: Locale, name: str) -> str:
    return _text(page_texts(locale)[name])


@lru_cache(4096)  # most texts are the same in many rows
def _text(text: str) -> str:
    """Return a text as HTML: clipped, and isolated from the direction around it if it has another."""
    shown = plain(text)
    clipped = html.escape(shown if len(shown) <= CLIPPED else f"{shown[:CLIPPED]}…")
    is_usual = shown.isascii() or not any(bidirectional(letter) in FROM_THE_RIGHT for letter in shown)
    return clipped if is_usual else f"<bdi>{clipped}</bdi>"
