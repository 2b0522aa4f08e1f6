"""The status page as HTML: no script, no external requests, no data of buyers."""

from datetime import datetime

from shop_poller.core.messages import CAUSES, Locale
from shop_poller.core.model import iso
from shop_poller.core.showing import before_colon
from shop_poller.locales import page_texts
from shop_poller.web.chart import chart
from shop_poller.web.frame import REFRESH_S, VERDICTS, document
from shop_poller.web.markup import Markup, fill, foreign, joined
from shop_poller.web.snapshot import StatusSnapshot
from shop_poller.web.tables import dead_letters, events, sinks
from shop_poller.web.troubles import Trouble, troubles
from shop_poller.web.view_context import ViewContext


def status_page(snapshot: StatusSnapshot, view: ViewContext) -> str:
    """Return the whole page."""
    found = troubles(snapshot)
    verdict = "bad" if any(one.grave for one in found) else "some" if found else "good"
    starting = (
        not found and snapshot.polling and (snapshot.state is None or snapshot.state.last_poll_at is None)
    )
    heading = view.say({"good": "well", "some": "attention", "bad": "unwell"}[verdict])
    if starting:
        verdict, heading = "some", view.say("starting")
    if found:
        under = fill("<ul>{items}</ul>", items=joined(_trouble(view, one, snapshot.now) for one in found))
    else:
        calm = "starting since" if starting else "well since" if snapshot.polling else "resting"
        under = fill("<p>{text}</p>", text=view.say(calm))
    parts = [
        _notice(view),
        verdict_section(verdict, heading, under),
        _tiles(view, snapshot),
        _chart(view, snapshot),
        sinks(view, snapshot),
        *(
            part(view, snapshot)
            for part in ((dead_letters, events) if snapshot.dead else (events, dead_letters))
        ),
    ]
    body = fill(
        '{header}<main id="content" class="wide">{parts}</main>{footer}',
        header=header(view, snapshot.shop, snapshot.version),
        parts=joined(parts),
        footer=_footer(view, snapshot),
    )
    title = f"{VERDICTS[verdict][0]} {view.say('title', shop=snapshot.shop)}"
    return document(view, body, title=title, verdict=verdict, refresh=not view.no_refresh)


def header(view: ViewContext, title: str, version: str) -> Markup:
    """Return the head of a page: its title, and links."""
    other: Locale = "en" if view.locale == "ru" else "ru"
    entry = Markup()
    if view.signed_in or view.reads_by_token:
        entry = fill(
            '<form method="post" action="sign-out"><button>{text}</button></form>', text=view.say("sign out")
        )
    elif view.actions_enabled:
        entry = fill('<a href="sign-in?lang={lang}">{text}</a>', lang=view.locale, text=view.say("sign in"))
    home = Markup()
    if view.home:
        chosen = f"?lang={view.locale}" if view.locale_chosen else ""
        home = fill('<a href="{url}">{text}</a>', url=view.home + chosen, text=view.say("all shops"))
    return fill(
        '<header><h1>{title} <span class="version">shop-poller {version}</span></h1>'
        '<nav aria-label="{label}">'
        '{home}<a href="{url}" lang="{other}" hreflang="{other}">{language}</a>{entry}</nav></header>',
        title=foreign(title),
        version=version,
        home=home,
        label=view.say("page"),
        url=view.page_url(lang=other),
        other=other,
        language=view.say("other language"),
        entry=entry,
    )


def _notice(view: ViewContext) -> Markup:
    if not view.notice:
        return Markup()
    return fill('<section class="notice full" role="status">{text}</section>', text=view.notice)


def verdict_section(verdict: str, heading: str, under: Markup) -> Markup:
    """Return the section that says how it goes; the verdict is a key of VERDICTS."""
    return fill(
        '<section class="verdict {verdict} full"><h2><span class="sign" aria-hidden="true">{sign}</span>'
        "{heading}</h2>{under}</section>",
        verdict=verdict,
        sign=VERDICTS[verdict][0],
        heading=heading,
        under=under,
    )


def _trouble(view: ViewContext, trouble: Trouble, now: datetime) -> Markup:
    age = (now - trouble.since).total_seconds() if trouble.since else trouble.seconds
    text = fill(
        page_texts(view.locale)[trouble.kind],
        name=foreign(before_colon(trouble.name)),
        count=view.number(trouble.count),
        ago=view.ago(trouble.since, now),
        age=view.age(age),
        cause=CAUSES[view.locale][trouble.cause] if trouble.cause else "",
        detail=foreign(view.line(trouble.detail)),
    )
    return fill(
        '<li>{text} <span class="where">{what} <code>{section}</code></span></li>',
        text=text,
        what=view.say("what to do"),
        section=trouble.section,
    )


def _tiles(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    stored = [sink.stored for sink in snapshot.sinks]
    in_flight = [sink.in_flight for sink in snapshot.sinks if sink.in_flight is not None]
    oldest = min((one.oldest_at for one in stored if one.oldest_at), default=None)
    unknown = view.say("not known")
    lag = view.say("no lag") if oldest is None else view.age((snapshot.now - oldest).total_seconds())
    tiles: dict[str, object] = {
        "last poll": view.ago(snapshot.state.last_poll_at if snapshot.state else None, snapshot.now),
        "next poll": _next(view, snapshot),
        "lag": lag,
        "outbox": view.number(sum(one.waiting for one in stored)),
        "queue": view.number(sum(in_flight))
        if in_flight or snapshot.leads
        else view.say("known to the leader"),
        "dead letters": view.number(sum(one.dead for one in stored)),
        "known": view.number(snapshot.known),
        "leads": view.say("this one") if snapshot.leads else foreign(snapshot.leader or view.say("nobody")),
    }
    if snapshot.trouble:
        tiles.update(dict.fromkeys(("last poll", "lag", "outbox", "dead letters", "known"), unknown))
        if not snapshot.leads:  # there may be no other replica
            tiles.update(dict.fromkeys(("queue", "leads"), unknown))
            tiles["next poll"] = unknown if snapshot.polling else view.say("off")
    shown = joined(
        fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=view.say(name), value=value)
        for name, value in tiles.items()
    )
    return fill(
        '<section class="full" aria-labelledby="summary"><h2 id="summary">{title}</h2>'
        '<dl class="tiles">{tiles}</dl>{actions}</section>',
        title=view.say("summary"),
        tiles=shown,
        actions=_poll_now(view, snapshot),
    )


def _next(view: ViewContext, snapshot: StatusSnapshot) -> str:
    if not snapshot.polling:
        return view.say("off")
    if snapshot.next_in_s is None:
        return view.say("now" if snapshot.leads else "by the leader")
    return view.say("in", age=view.age(snapshot.next_in_s)) if snapshot.next_in_s >= 1 else view.say("now")


def _poll_now(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    if not view.actions_enabled:
        return Markup()
    if not view.signed_in:
        # This reader has signed in with a token that does not allow actions.
        text = view.say("reads only" if view.reads_by_token else "to act")
        return fill('<p class="soft">{text}</p>', text=text)
    if not (snapshot.polling and snapshot.leads):
        return Markup()
    return fill(
        '<form class="actions" method="post" action="{action}"><button class="main">{text}</button></form>',
        action=view.action_url("poll"),
        text=view.say("poll now"),
    )


def _chart(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    most = max(
        (sum(pair) for pair in zip(snapshot.delivered, snapshot.dead_lettered, strict=True)), default=0
    )
    text = view.say(
        "chart text",
        delivered=view.number(sum(snapshot.delivered)),
        dead_lettered=view.number(sum(snapshot.dead_lettered)),
        most=view.number(most),
    )
    picture = chart(
        snapshot.delivered,
        snapshot.dead_lettered,
        title=view.say("chart title"),
        text=text,
        ends=(view.say("first hour"), view.say("last hour")),
    )
    return fill(
        '<section aria-labelledby="day"><h2 id="day">{title}</h2>{picture}'
        '<p class="soft">{text}</p></section>',
        title=view.say("chart"),
        picture=picture,
        text=text,
    )


def _footer(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    at = fill(
        '<time datetime="{iso}">{text}</time>', iso=iso(snapshot.now), text=f"{snapshot.now:%H:%M:%S} UTC"
    )
    text = page_texts(view.locale)["read at, no refresh" if view.no_refresh else "read at"]
    return fill(
        '<footer><p>{read} <a href="{url}">{toggle}</a></p></footer>',
        read=fill(text, at=at, seconds=REFRESH_S),
        url=view.page_url(no_refresh=not view.no_refresh),
        toggle=view.say("refresh" if view.no_refresh else "stop refreshing"),
    )
